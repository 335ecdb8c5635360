"""Where a build writes: a folder here; or one in a store, of which only what is small stays here meanwhile.

A shard of a folder in a store is built here, copied there, its commit last, and deleted here. So a build that
is killed at any moment goes on from what the store has, on this machine or another.
"""

import hashlib
import math
import os
import platform
import re
import secrets
import shutil
from collections.abc import Generator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from speechrows.builds import state
from speechrows.builds.commit import Commit
from speechrows.builds.locks import Tell
from speechrows.builds.locks import worker_lock
from speechrows.corpora.reader import Shard
from speechrows.errors import UsageError
from speechrows.folder.layout import CARD
from speechrows.folder.layout import PICTURES
from speechrows.folder.layout import RECIPE
from speechrows.folder.layout import SKIPPED
from speechrows.folder.layout import STATE
from speechrows.folder.layout import TOKENIZER
from speechrows.storage.cache import cache_folder
from speechrows.storage.remote_folder import RemoteFolder
from speechrows.types import Task

_GB = 10**9
_ROOM = 1.25  # of a shard's files beside its bytes of the corpus: some clips are stored as FLAC
_TWO_CLIPS = 2.5  # where a row has its answer's clip too


@dataclass(frozen=True, kw_only=True)
class Place:
    """The folder `here`; with `remote`, it holds only what is small of the one there."""

    here: Path
    remote: RemoteFolder | None = None
    scratch_bytes: float | None = None  # of shards that may lie here at once, before they are in the store

    @staticmethod
    def at(address: str, scratch: float | None = None, part: str = "") -> "Place":
        """The folder at a path or an address; of one in a store, at most `scratch` GB lie here at once.

        `part` tells runs apart that build parts of one in a store.

        Raises:
            UsageError: nothing can be written at such an address, or a scratch of a folder here.
            StoreError: the Hub can not be reached.
        """
        if scratch is not None and not 0 < scratch < math.inf:
            raise UsageError(f"--scratch: found {scratch:g}, expected GB, more than 0")
        if "://" in address:
            address = re.sub("(?<=[^:/])/+$", "", address)
            name = hashlib.sha256(f"{address} {part}".encode()).hexdigest()[:16]
            here = cache_folder() / "builds" / name
            return Place(
                here=here, remote=RemoteFolder.open(address), scratch_bytes=scratch and scratch * _GB
            )
        if scratch is not None:
            raise UsageError(
                f"--scratch: found {address}, a folder here; expected --out s3://, gs:// or hf://"
            )
        # Absolute: pyarrow would take "a::b" for the address of a store.
        return Place(here=Path(address).expanduser().absolute())

    @staticmethod
    def of(out: "Path | Place") -> "Place":
        """A place as it is, or that of a folder here."""
        return out if isinstance(out, Place) else Place.at(str(out))

    def __str__(self) -> str:
        return str(self.here) if self.remote is None else self.remote.address

    def open_shard(self, path: str) -> AbstractContextManager[pq.ParquetFile]:
        """Open a shard's parquet file, wherever it is."""
        return pq.ParquetFile(self.here / path) if self.remote is None else self.remote.open_parquet(path)

    def locked(self, tell: Tell, *, is_shared: bool = False) -> AbstractContextManager[None]:
        """As state.locked; of a store, runs of other shards have each a folder here, and share nothing."""
        if self.remote is None:
            return state.locked(self.here, tell, is_shared=is_shared)
        return state.locked(self.here, tell, address=self.remote.address)

    def begin(self) -> None:
        """Bring what is small of a folder in a store here; the caller holds the lock.

        Raises:
            UsageError: something else lies there, or it can not be read.
            StoreError: the store did not answer.
        """
        if self.remote is None:
            return
        _clear(self.here)
        paths = self.remote.sizes()
        strangers = sorted({path.split("/")[0] for path in paths if not path.startswith(".")})
        if strangers and RECIPE not in paths:
            raise UsageError(
                f"{self}: holds {', '.join(strangers[:3])}, which no build wrote; give an empty folder"
            )
        small = (f"{STATE}/", "index/", CARD)
        self.remote.read([path for path in paths if path.startswith(small)], self.here)

    def claim(self, claim: state.Claim, *, overwrite: bool) -> None:
        """As state.claim; what it drops is dropped in the store too."""
        is_dropped = state.claim(self.here, claim, overwrite=overwrite, address=str(self))
        if is_dropped and self.remote is not None:
            rooms = tuple(f"{room}/{claim.task}/" for room in (STATE, "data", "index", "screen"))
            paths = [path for path in self.remote.sizes() if path.startswith(rooms) or path == CARD]
            self.remote.remove(paths, f"Drop the rows of another {claim.task}")

    @property
    def seen_by_workers(self) -> tuple[str, ...]:
        """The folder that workers have to see, wherever they are; none of one in a store."""
        return (str(self.here),) if self.remote is None else ()

    @contextmanager
    def of_worker(self) -> Generator["Place"]:
        """The place as a worker has it while it builds a shard: for a store, in a folder of its own."""
        if self.remote is None:
            with worker_lock(self.here):
                yield self
            return
        folder = state.temporary_folder(self.here)
        for path in folder.glob(f"{platform.node()}-*"):
            if not _is_alive(int(path.name.split("-")[-2])):  # it was killed
                shutil.rmtree(path, ignore_errors=True)
        own = folder / f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
        state.temporary_folder(own).mkdir(parents=True)
        try:
            yield replace(self, here=own)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def collect(self, task: str) -> None:
        """Bring the commits, and lines of the index, that workers brought to the store."""
        if self.remote is not None:
            state_folder = f"{STATE}/{task}/"
            sizes = {path: n for path, n in self.remote.sizes().items() if path.startswith(state_folder)}
            self.remote.read([path for path, n in sizes.items() if _size(self.here / path) != n], self.here)

    def write_claim(self) -> None:
        """Tell the store what is built there, before the first shard is."""
        if self.remote is not None:
            # The recipe is first: without it, whatever else a killed build leaves would be a stranger's.
            self.remote.write([RECIPE, *self._files(TOKENIZER)], self.here, "Begin rows")

    def missing(self, task: str, shards: Sequence[Shard]) -> list[Shard]:
        """The shards that are not built, or whose files are not as they were built."""
        sizes = None if self.remote is None else self.remote.sizes()
        return [shard for shard in shards if not state.finished(self.here, task, shard.number, sizes)]

    def most_processes(self, task: Task, shards: Sequence[Shard]) -> int | None:
        """How many processes have room to build a shard each; None where it is not limited.

        Raises:
            UsageError: not one has.
        """
        if self.scratch_bytes is None or not shards:
            return None
        largest = max(shard.num_bytes for shard in shards) * (_ROOM if task.pairing == "turn" else _TWO_CLIPS)
        number = int(self.scratch_bytes // largest)
        if not number:
            raise UsageError(
                f"--scratch: found {self.scratch_bytes / _GB:g} GB, expected at least {largest / _GB:.3g}: "
                "a process has a shard here until it is in the store"
            )
        return number

    def deliver(self, task: str, shard: int, commit: Commit) -> None:
        """Bring a shard that was built to the store; here stay its commit and its lines of the index."""
        if self.remote is None:
            return
        folder = state.task_folder(self.here, task)
        files = [*(folder / file.index for file in commit.files), state.commit_file(self.here, task, shard)]
        rows = [file.path for file in commit.files]
        paths = [*rows, *(file.relative_to(self.here).as_posix() for file in files)]
        self.remote.write(paths, self.here, f"Add shard {shard} of {task}")
        for path in rows:
            (self.here / path).unlink()

    def finish(self, task: str, commits: Sequence[Commit]) -> None:
        """Bring what was merged to the store, its card last, and drop shards that no commit names."""
        if self.remote is None:
            return
        parts = ["index/" + task, PICTURES, TOKENIZER]
        paths = [path for part in parts for path in self._files(part)]
        self.remote.write([*paths, SKIPPED, CARD], self.here, f"Add the index of {task}, and the card")
        named = {file.path for commit in commits for file in commit.files}
        rooms = tuple(f"{room}/" for room in (f"data/{task}", *parts))
        strays = [path for path in self.remote.sizes() if path.startswith(rooms)]
        strays = [path for path in strays if path not in named.union(paths)]
        self.remote.remove(strays, f"Drop strays of {task}")
        for path in (self.here / "index", *state.task_folder(self.here, task).glob("*.parquet")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _files(self, folder: str) -> list[str]:
        """The paths of the files below a folder here, sorted."""
        paths = (path for path in (self.here / folder).rglob("*") if path.is_file())
        return sorted(path.relative_to(self.here).as_posix() for path in paths)


def _size(path: Path) -> int | None:
    """The bytes of a file; None where it is not there."""
    return path.stat().st_size if path.exists() else None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _clear(here: Path) -> None:
    """Delete what an earlier build left of a folder in a store, but the locks, which this one holds."""
    kept = ("lock", "workers", state.temporary_folder(here).name)
    for path in [*here.glob("[!.]*"), *(here / STATE).iterdir()]:
        if path.parent == here or path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
