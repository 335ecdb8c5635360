"""Blocks of remote files on this machine's disk, of bounded size: what was not used for longest goes.

A block is a file of its own, its bytes behind their checksum. Any number of processes may share the folder:
what one reads, the others find, and a block that several need at once is read by one while they wait. A
process that is killed leaves at most files that nobody has locked, which the next clearing deletes.
"""

import fcntl
import os
import zlib
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import cast

from speechrows.errors import UsageError

BLOCK_BYTES = 8 << 20
_CHECKSUM = 4  # bytes of a CRC-32 behind a block's
_KEPT = 0.95  # of the most bytes, when blocks had to go: they go seldom, many at once
_TEMPORARY = ".tmp"  # ends the name of a block that is not there yet; who fetches it holds its lock
_TOTAL = 8  # bytes of the lock's file, which tells how many bytes blocks have

Fetch = Callable[[int, int], bytes]


@dataclass(frozen=True)
class BlockCache:
    """Blocks in a folder, of at most `max_bytes`; it can be pickled.

    A block that was read whole by a process is not checked again by it.
    """

    folder: Path
    max_bytes: int
    _checked: set[str] = field(default_factory=set[str], compare=False, repr=False)

    @staticmethod
    def open(folder: Path, max_bytes: int) -> "BlockCache":
        """The cache in a folder, which is made.

        Raises:
            UsageError: it can not be made, or would not hold a block.
        """
        is_number = isinstance(cast(object, max_bytes), int | float)
        if not is_number or not max_bytes >= 2 * BLOCK_BYTES:
            raise UsageError(f"cache: found {max_bytes!r} bytes, expected at least {2 * BLOCK_BYTES:,}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{folder}: can not be made ({error.strerror}); HF_DATASETS_CACHE says where caches are"
            ) from error
        return BlockCache(folder, max_bytes)

    def read(self, name: str, size: int, start: int, stop: int, fetch: Fetch) -> bytes:
        """The bytes `[start, stop)` of a file of `size` bytes.

        `name` says the file's content, wherever it is: its digest. `fetch` reads bytes of it from afar.
        """
        parts = list[bytes]()
        for begin in range(start - start % BLOCK_BYTES, stop, BLOCK_BYTES):
            end = min(begin + BLOCK_BYTES, size)
            block = self._block(f"{name}-{begin:012x}", begin, end, fetch)
            parts.append(block[max(start - begin, 0) : stop - begin])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _block(self, name: str, begin: int, end: int, fetch: Fetch) -> bytes:
        """A block that is there, or is fetched and kept where there is room on the disk."""
        block = self._found(name, end - begin)
        if block is not None:
            return block
        with ExitStack() as stack:
            try:
                temporary = stack.enter_context(_locked(self.folder / f"{name}{_TEMPORARY}"))
            except OSError:  # nothing can be written there
                return fetch(begin, end)
            block = self._found(name, end - begin)  # another may have read it while this one waited
            if block is None:
                block = fetch(begin, end)
                self._keep(temporary, name, block)
        return block

    def _found(self, name: str, size: int) -> bytes | None:
        """A block that is there as it was written, which is now the last that was used."""
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError:
            return None
        block = data[:-_CHECKSUM]
        if len(block) != size:
            return None
        if name not in self._checked:
            if zlib.crc32(block) != int.from_bytes(data[-_CHECKSUM:]):
                return None  # spoilt by a power cut
            self._checked.add(name)
        with suppress(OSError):
            os.utime(path)
        return block

    def _keep(self, temporary: int, name: str, block: bytes) -> None:
        """Write a block, for which room is made, under its name; where that fails, it is not kept."""
        path = self.folder / f"{name}{_TEMPORARY}"
        try:
            self._make_room(temporary, len(block) + _CHECKSUM)
            with os.fdopen(os.dup(temporary), "wb") as file:
                file.write(block)
                file.write(zlib.crc32(block).to_bytes(_CHECKSUM))
            with _locked(self.folder / "lock"):  # who counts files sees each under one name
                path.replace(self.folder / name)
        except OSError:  # the disk is full, or the folder has been deleted
            with suppress(OSError):
                path.unlink()
        else:
            self._checked.add(name)

    def _make_room(self, temporary: int, num_bytes: int) -> None:
        """Make a temporary file as long as a block will be; where that is too much, blocks go before."""
        with _locked(self.folder / "lock") as lock:
            total = int.from_bytes(os.pread(lock, _TOTAL, 0)) + num_bytes
            if total > self.max_bytes:
                total = self._clear(int(_KEPT * self.max_bytes) - num_bytes) + num_bytes
            os.truncate(temporary, num_bytes)
            os.pwrite(lock, total.to_bytes(_TOTAL), 0)

    def _clear(self, num_bytes: int) -> int:
        """Delete what was not used for longest until so many bytes are left; the bytes that are left."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= num_bytes:
                break
            if not path.endswith(_TEMPORARY):
                with suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size
        return total

    def _files(self) -> Iterator[tuple[int, int, str]]:
        """When each file was last used, its bytes, and its path; what killed processes left is deleted."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name == "lock" or (
                    entry.name.endswith(_TEMPORARY) and _delete_abandoned(entry.path)
                ):
                    continue
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    yield stat.st_mtime_ns, stat.st_size, entry.path


@contextmanager
def _locked(path: Path) -> Generator[int]:
    """Hold the lock of a file, which is made; it is the one that bears the name now."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_named(fd, path):
                yield fd
                return
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # a process that was forked meanwhile has the file open, too
            os.close(fd)


def _is_named(fd: int, path: Path) -> bool:
    """Whether an open file still bears a name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), os.stat(path))
    return False


def _delete_abandoned(path: str) -> bool:
    """Delete a temporary file that no process holds; whether it is gone."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
