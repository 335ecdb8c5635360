"""A built folder, on disk or as a Hub dataset: its splits, configs, indexes and files."""

import atexit
import os
import shutil
import struct
import tempfile
from collections.abc import Generator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speechrows.errors import ShortfallError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.errors import describe_error
from speechrows.errors import first_line
from speechrows.folder.card_facts import CardFacts
from speechrows.folder.index_file import check_columns
from speechrows.folder.index_file import check_whole
from speechrows.folder.inside import check_name
from speechrows.folder.layout import CARD
from speechrows.folder.layout import TOKENIZER
from speechrows.folder.layout import index_path
from speechrows.folder.layout import is_built
from speechrows.folder.manifest import TaskFacts
from speechrows.folder.unfinished import without_index
from speechrows.storage.card_head import parse_head
from speechrows.storage.filesystem import check_link
from speechrows.storage.filesystem import is_local
from speechrows.storage.filesystem import is_refusal
from speechrows.storage.filesystem import locate
from speechrows.storage.filesystem import of_this_process
from speechrows.storage.filesystem import path_text
from speechrows.storage.filesystem import pinned
from speechrows.storage.filesystem import refused
from speechrows.storage.parquet_file import AHEAD
from speechrows.storage.parquet_file import open_parquet
from speechrows.storage.retry import retry

_INDEX_AHEAD = 8 << 20  # bytes read ahead of a remote index: all of it is read

FileVersion = tuple[int, int, int, int] | None


@dataclass(frozen=True, repr=False)
class RowsFolder:
    """A built folder, on disk or as a Hub dataset, read by ranges.

    `revision` is the commit of a Hub dataset: what is pushed later is not seen.
    """

    address: str
    root: str
    fs: Any
    revision: str | None = None

    @staticmethod
    def open(address: str | Path) -> "RowsFolder":
        """Open the folder at a path, an fsspec address, or a Hub dataset `org/name` or `org/name@revision`.

        Raises:
            UsageError: nothing that speechrows built is there, or none for whoever asks.
            StoreError: a remote store did not answer.
        """
        address = path_text(address)
        fs, root = locate(address)
        try:
            root, revision = retry(lambda: pinned(fs, root))
            folder = RowsFolder(address=address, root=root.rstrip("/"), fs=fs, revision=revision)
            splits = folder.splits()
        except Exception as error:
            if is_refusal(error):
                raise UsageError(refused(fs, address, error)) from error
            raise StoreError(
                f"{address}: the store did not answer ({first_line(error)}); try again"
            ) from error
        if not splits:
            raise UsageError(f"{address}: {without_index(folder.root if folder.is_local else None)}")
        return folder

    def __repr__(self) -> str:
        revision = "" if self.revision is None else f", revision {self.revision[:8]}"
        tasks = len({task for task, _ in self._splits})
        return f"RowsFolder({self.address!r}: {tasks} tasks, {len(self._splits)} splits{revision})"

    @property
    def is_local(self) -> bool:
        """Whether its files are on this machine."""
        return is_local(self.fs)

    @property
    def _fs(self) -> Any:
        """The file system, as a process that was forked may use it."""
        return of_this_process(self.fs)

    def splits(self) -> list[tuple[str, str]]:
        """(task, split) of everything in the folder, sorted."""
        return [*self._splits]

    @cached_property
    def _splits(self) -> list[tuple[str, str]]:
        parts = [path.split("/") for path in self.glob("index/*/*.parquet")]
        return [(task, split.removesuffix(".parquet")) for _, task, split in parts]

    def index(self, task: str, split: str, columns: list[str] | None = None) -> pa.Table:
        """The index of a task and split.

        Raises:
            ShortfallError: it is damaged.
        """
        with self.open_index(task, split) as index:
            table = index.read(columns, use_threads=False)
            check_whole(table)
            return table

    def index_facts(self, task: str, split: str) -> TaskFacts:
        """What the index says of the task as a whole: its shards, ledger, rate and template options.

        Raises:
            UsageError: no build wrote it, or what it says is damaged.
            ShortfallError: it is damaged.
        """
        with self._open_index(task, split) as (_, facts):
            return facts

    @contextmanager
    def open_index(self, task: str, split: str) -> Generator[pq.ParquetFile]:
        """Open the index of a task and split, which has the columns and lines that a build writes.

        Raises:
            UsageError: no build wrote it, or what it says is damaged.
            ShortfallError: it, or what is read of it while it is open, is damaged.
        """
        with self._open_index(task, split) as (index, _):
            yield index

    @contextmanager
    def _open_index(self, task: str, split: str) -> Generator[tuple[pq.ParquetFile, TaskFacts]]:
        path = index_path(task, split)
        with self.naming(path), self.open_parquet(path) as index:
            facts = TaskFacts.from_metadata(index.schema_arrow.metadata, f"{self.address}: {path}")
            check_columns(index.schema_arrow)
            num_lines, num_rows = index.metadata.num_rows, sum(shard.rows for shard in facts.shards)
            if num_lines != num_rows:
                raise ShortfallError(
                    f"{self.address}: {path} has {num_lines} lines of {task}, its shards promise {num_rows} "
                    "rows; build or download it again"
                )
            yield index, facts

    @contextmanager
    def naming(self, path: str) -> Generator[None]:
        """Read a file of the folder: what shows that it is damaged is told in words.

        Raises:
            ShortfallError: it is damaged, or it is not there.
            StoreError: a remote store did not answer.
        """
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, LookupError, struct.error) as error:
            is_of_arrow = type(error) is OSError and error.errno is None
            is_of_file = not isinstance(error, OSError) or is_of_arrow or isinstance(error, FileNotFoundError)
            if not self.is_local and not is_of_file:
                raise StoreError(f"{self.address}: {path}: the store did not answer ({error})") from error
            raise self._damaged(path, error, "the file") from error

    def _damaged(self, path: str, error: Exception, what: str) -> ShortfallError:
        return ShortfallError(
            f"{self.address}: {path}: found {describe_error(error):.200}; expected {what} that a build "
            "wrote. Run the same build again, or download the file again"
        )

    def configs(self) -> dict[str, dict[str, list[str]]]:
        """The patterns of each split of each config, as the card lists: a stage's bands, a union's tasks.

        Raises:
            UsageError: there is no card, or it lists none.
            ShortfallError: it is damaged.
        """
        configs = self._card.configs
        if not configs:
            raise UsageError(
                f"{self.address}: its {CARD} lists no config; expected those of the tasks in the folder. Run "
                "the same build again, or download the file again"
            )
        return configs

    def num_rows(self, config: str, split: str) -> int | None:
        """The rows of a config and split, as the card tells; None where it tells none."""
        return self._card.num_rows.get((config, split))

    @cached_property
    def _card(self) -> CardFacts:
        try:
            with self.naming(CARD), self.open_file(CARD) as file:
                text = file.read().decode("utf-8")
        except ShortfallError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            message = f"{self.address}: has no {CARD}, which a build writes last. Run the same build again"
            raise UsageError(message) from error
        try:
            return CardFacts.of(parse_head(text))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(CARD, error, "the YAML at its head") from error

    def place(self, path: str) -> str:
        """Where a file of the folder is in its file system; all that is opened here is opened there.

        Raises:
            UsageError: no build writes such a file, or a symlink leads out of the folder.
        """
        check_name(path, self.address)
        if self.is_local:
            check_link(self.root, path, self.address)
        return f"{self.root}/{path}"

    def tokenizer_files(self) -> list[str]:
        """The paths of what a build saved of the tokenizer, sorted; each may be opened."""
        return [path for path in self._below_tokenizer() if self._may_open(path)]

    def tokenizer_folder(self) -> str:
        """A folder on this machine with the tokenizer's files alone; a copy ends with this process."""
        everything = self._below_tokenizer()
        files = [path for path in everything if self._may_open(path)]
        if self.is_local and files == everything:
            return f"{self.root}/{TOKENIZER}"
        local = tempfile.mkdtemp(prefix="speechrows-tokenizer-")
        atexit.register(shutil.rmtree, local, ignore_errors=True)
        for path in files:
            copy = f"{local}/{path.removeprefix(TOKENIZER)}"
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            self.fs.get_file(f"{self.root}/{path}", copy)
        return local

    def _below_tokenizer(self) -> list[str]:
        paths = self.fs.find(f"{self.root}/{TOKENIZER}")
        return sorted(path[len(self.root) + 1 :] for path in paths)

    def _may_open(self, path: str) -> bool:
        """Whether builds write such a file; raises UsageError where a symlink leads out."""
        return is_built(path) and bool(self.place(path))

    def has(self, path: str) -> bool:
        """Whether the folder has a file."""
        return bool(self.fs.exists(self.place(path)))

    def version_of(self, path: str) -> FileVersion:
        """An identity of a file on this machine that changes when it is edited or replaced; else None."""
        if not self.is_local:
            return None
        try:
            stat = os.stat(self.place(path))
        except FileNotFoundError:
            return None
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns

    def open_file(self, path: str) -> Any:
        """Open a file of the folder for reading."""
        return self._fs.open(self.place(path), "rb", **_ahead(path))

    def open_parquet(
        self, path: str, metadata: pq.FileMetaData | None = None, *, verify_checksums: bool = False
    ) -> AbstractContextManager[pq.ParquetFile]:
        """Open a parquet file of the folder; `metadata` is its footer, if that was parsed before."""
        options = {"verify_checksums": verify_checksums, **_ahead(path)}
        return open_parquet(self._fs, self.place(path), metadata=metadata, **options)

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Read exactly the bytes from `start` to `stop` of a file, in one request.

        Raises:
            OSError: they can not be read, or end early; stores have other errors of their own.
        """
        with self._fs.open(self.place(path), "rb", cache_type="none") as file:
            file.seek(start)
            data = file.read(stop - start)
        if len(data) != stop - start:
            raise OSError(f"found {len(data)} bytes at {start}, expected {stop - start}")
        return data

    def glob(self, pattern: str) -> list[str]:
        """The folder's files that match a pattern of the card and that builds write, sorted."""
        if ".." in pattern.split("/"):  # would be listed before it is refused
            return []
        paths = [path[len(self.root) + 1 :] for path in self.fs.glob(f"{self.root}/{pattern}")]
        return sorted(path for path in paths if is_built(path))


def _ahead(path: str) -> dict[str, Any]:
    ahead = _INDEX_AHEAD if path.startswith(("index/", "screen/")) else AHEAD
    return {"block_size": ahead, "cache_type": "readahead"}
