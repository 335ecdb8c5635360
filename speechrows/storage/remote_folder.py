"""A folder in a store (s3://, gs://, hf://), which files are written to, each whole or not at all."""

import re
import time
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import CommitOperationAdd
from huggingface_hub import CommitOperationDelete
from huggingface_hub import HfApi
from huggingface_hub import HfFileSystem
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import are_progress_bars_disabled
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils import enable_progress_bars

from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.storage.filesystem import LOG_IN
from speechrows.storage.filesystem import how_to_log_in
from speechrows.storage.filesystem import is_local
from speechrows.storage.filesystem import is_refusal
from speechrows.storage.filesystem import open_store
from speechrows.storage.hub_calls import MovedError
from speechrows.storage.hub_calls import call_hub
from speechrows.storage.parquet_file import AHEAD
from speechrows.storage.parquet_file import open_parquet
from speechrows.storage.retry import QUOTA
from speechrows.storage.retry import retry

_CONNECTIONS = 16  # at once, for many small files


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at an address of a store, whether something is there or not.

    Paths are relative to it, with forward slashes; what is listed is not remembered.
    """

    address: str
    fs: Any
    root: str

    @staticmethod
    def open(address: str) -> "RemoteFolder":
        """The folder at an address.

        Raises:
            UsageError: no store that is known has such addresses, or it is on this machine.
            StoreError: it is on the Hub, which can not be reached.
        """
        if set(address) & set("*?[]") or ".." in address.split("/"):
            raise UsageError(f"{address}: stores take * ? [ ] for a pattern, and .. for a name; give another")
        if address.startswith("hf://") and not re.match("hf://(datasets|buckets)/[^/]+/[^/]", address):
            raise UsageError(f"{address}: found no dataset of the Hub; expected hf://datasets/org/name")
        fs, root = open_store(address)
        if is_local(fs) or not root or "memory" in fs.protocol:
            raise UsageError(f"{address}: found no folder in a store; expected such as s3://bucket/rows")
        if isinstance(fs, HfFileSystem) and root.startswith("datasets/"):
            return _HubRepository(address, fs, root)
        return RemoteFolder(address, fs, root)

    def sizes(self) -> dict[str, int]:
        """The bytes of every file, by path.

        Raises:
            UsageError: whoever asks may not read there.
            StoreError: the store did not answer.
        """

        def find() -> Mapping[str, Any]:
            self.fs.invalidate_cache()
            return self.fs.find(self.root, detail=True)

        try:
            infos = retry(find, patient=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # each store has errors of its own
            raise self._failed(error) from error
        below = {path[len(self.root) + 1 :]: int(info["size"] or 0) for path, info in infos.items()}
        # A store's own pages make an empty object, whose name ends with a slash, for a folder.
        return {path: size for path, size in below.items() if path and not path.endswith("/")}

    def read(self, paths: Sequence[str], here: Path) -> None:
        """Copy files into a folder on this machine, below which they have the same paths."""

        def read(path: str) -> None:
            (here / path).parent.mkdir(parents=True, exist_ok=True)
            self._call(lambda: self.fs.get_file(f"{self.root}/{path}", str(here / path)))

        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(read, paths))

    def write(self, paths: Sequence[str], here: Path, why: str) -> None:
        """Copy files of a folder on this machine; each is there only after those before it.

        `why` says in a line what is written, where the store keeps such lines.

        Raises:
            UsageError: whoever asks may not write there.
            StoreError: the store did not take them, after all retries.
        """
        del why
        for path in paths:
            self._call(lambda path=path: self.fs.put_file(str(here / path), f"{self.root}/{path}"))

    def remove(self, paths: Sequence[str], why: str) -> None:
        """Delete files; `why` as of `write`."""
        del why
        if paths:
            self._call(lambda: self.fs.rm([f"{self.root}/{path}" for path in paths]))

    @contextmanager
    def open_parquet(self, path: str) -> Generator[pq.ParquetFile]:
        """Open a parquet file, of which only what is asked for is read.

        Raises:
            UsageError: whoever asks may not read it.
            StoreError: the store did not answer, then or while the file is read.
        """
        place = f"{self.root}/{path}"
        try:
            with open_parquet(self.fs, place, block_size=AHEAD, cache_type="readahead") as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error

    def _call(self, call: Any) -> None:
        try:
            retry(call, patient=True)
        except Exception as error:  # each store has errors of its own
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> UsageError | StoreError:
        if is_refusal(error):
            return UsageError(
                f"{self.address}: found {first_line(error)}; expected a place that can be written. "
                f"{how_to_log_in(self.fs)}"
            )
        return StoreError(
            f"{self.address}: the store did not answer ({first_line(error)}). Run the same command again: "
            "finished shards are kept"
        )


class _HubRepository(RemoteFolder):
    """A dataset of the Hub: what is written together is one commit."""

    def write(self, paths: Sequence[str], here: Path, why: str) -> None:
        self._commit([CommitOperationAdd(path, str(here / path)) for path in paths], why)

    def remove(self, paths: Sequence[str], why: str) -> None:
        self._commit([CommitOperationDelete(path, is_folder=False) for path in paths], why)

    def sizes(self) -> dict[str, int]:
        self.fs.invalidate_cache()  # which remembers what is not there, too
        self._place()
        return super().sizes()

    @property
    def _api(self) -> HfApi:
        return HfApi(endpoint=self.fs.endpoint, token=self.fs.token)

    def _place(self) -> Any:
        """The repository, revision and path of the folder."""
        try:
            return retry(lambda: self.fs.resolve_path(self.root), patient=True)
        except FileNotFoundError as error:
            raise UsageError(
                f"{self.address}: no such dataset on the Hub, or none that this token may see. Make it: "
                "`hf repos create org/name --type dataset`, with --private where it is nobody else's. "
                f"{LOG_IN}"
            ) from error
        except Exception as error:
            raise self._failed(error) from error

    def _commit(self, operations: Sequence[Any], why: str) -> None:
        """Commit operations, whose paths are of this folder; other processes commit meanwhile."""
        if not operations:
            return
        place = self._place()
        for operation in operations:
            operation.path_in_repo = f"{place.path_in_repo}/{operation.path_in_repo}".removeprefix("/")
        options: Any = {"repo_type": "dataset", "revision": place.revision, "commit_message": why}

        def commit() -> object:
            with _without_bars():  # of each file: the build has one of its own
                return self._api.create_commit(place.repo_id, operations, **options)

        def commit_within_quota() -> object:
            for pause in QUOTA:
                try:
                    return commit()
                except HfHubHTTPError as error:
                    if error.response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
                        raise
                    time.sleep(pause)
            return commit()

        try:
            retry(
                lambda: call_hub(self.fs.endpoint, place.repo_id, commit_within_quota),
                patient=True,
                again=(MovedError, StoreError),
            )
        except MovedError as error:
            raise StoreError(f"{self.address}: {error} all the time. Run the same command again") from error


@contextmanager
def _without_bars() -> Generator[None]:
    were_shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if were_shown:
            enable_progress_bars()
