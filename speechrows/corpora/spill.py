"""Buffers for clips of incomplete conversations: in memory, then on disk."""

import os
import tempfile
from typing import IO
from typing import Any

from speechrows.errors import UsageError

SPILL_BYTES = 256 << 20  # kept in memory; what comes beyond goes to disk


class SpillBuffer:
    """Clips by key: in memory up to `limit` bytes, then on disk.

    The disk is a file without a name in the system's temporary folder (TMPDIR): it is gone with
    the process. Its space is reused, in slots whose sizes are powers of two.
    """

    def __init__(self, limit: int = SPILL_BYTES) -> None:
        self._limit = limit
        self._in_memory: dict[str, bytes | memoryview] = {}
        self._num_bytes = 0  # of them
        self._on_disk: dict[str, tuple[int, int]] = {}  # offset in the file, size
        self._free: dict[int, list[int]] = {}  # offsets of free slots by their size
        self._end = 0
        self._file: IO[bytes] | None = None

    def __contains__(self, key: str) -> bool:
        return key in self._in_memory or key in self._on_disk

    def __len__(self) -> int:
        return len(self._in_memory) + len(self._on_disk)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Keep a clip, and the memory that it is a view of; it replaces one of the same key.

        Raises:
            UsageError: the temporary folder has no room.
        """
        self.drop(key)
        if self._num_bytes + len(data) <= self._limit:
            self._in_memory[key] = data
            self._num_bytes += len(data)
            return
        try:
            self._write(key, data)
        except OSError as error:
            raise UsageError(
                f"{tempfile.tempdir or 'TMPDIR'}: found {error.strerror} while {len(self)} clips wait for "
                "the rest of their conversation, expected room for them: let TMPDIR name a folder that has "
                "more, and run the same command again (an unpacked corpus needs none)"
            ) from error

    def _write(self, key: str, data: bytes | memoryview) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed with the buffer
        slot = _slot_size(len(data))
        free = self._free.get(slot)
        if free:
            offset = free.pop()
        else:
            offset, self._end = self._end, self._end + slot
        self._on_disk[key] = offset, len(data)
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, offset)
            offset, rest = offset + written, rest[written:]

    def take(self, key: str) -> bytes | memoryview:
        """Return a clip and forget it.

        Raises:
            KeyError: there is none of that key.
        """
        if key in self._in_memory:
            data = self._in_memory.pop(key)
            self._num_bytes -= len(data)
            return data
        offset, size = self._on_disk[key]
        assert self._file is not None
        data = os.pread(self._file.fileno(), size, offset)
        self.drop(key)
        return data

    def drop(self, key: str) -> None:
        """Forget a clip, if there is one of that key."""
        self._num_bytes -= len(self._in_memory.pop(key, b""))
        if key in self._on_disk:
            offset, size = self._on_disk.pop(key)
            self._free.setdefault(_slot_size(size), []).append(offset)
            if not self._on_disk and self._file is not None:
                self._file.truncate(0)  # gives the disk back
                self._free, self._end = {}, 0


class ViewBuffer:
    """Clips by key, as they came: views of batches, which stay in memory up to `limit` bytes.

    Beyond that, the clips of the oldest batch go to disk. No clip that stays in memory is copied.
    """

    def __init__(self, limit: int = SPILL_BYTES) -> None:
        self._limit = limit
        self._views: dict[str, bytes | memoryview] = {}  # the oldest first
        self._batches: dict[int, int] = {}  # how many views of it are kept, by identity
        self._num_bytes = 0  # of these batches
        self._on_disk = SpillBuffer(0)

    def put(self, key: str, clip: bytes | memoryview) -> None:
        """Keep a clip under a key that none has.

        Raises:
            UsageError: the temporary folder has no room.
        """
        batch = _batch_of(clip)
        self._views[key] = clip
        self._batches[id(batch)] = self._batches.get(id(batch), 0) + 1
        if self._batches[id(batch)] == 1:
            self._num_bytes += memoryview(batch).nbytes
        while self._num_bytes > self._limit:
            oldest = next(iter(self._views))
            self._on_disk.put(oldest, self._pop(oldest))

    def take(self, key: str) -> bytes | memoryview:
        """Return a clip and forget it.

        Raises:
            KeyError: there is none of that key.
        """
        return self._pop(key) if key in self._views else self._on_disk.take(key)

    def _pop(self, key: str) -> bytes | memoryview:
        clip = self._views.pop(key)
        batch = _batch_of(clip)
        self._batches[id(batch)] -= 1
        if not self._batches[id(batch)]:
            del self._batches[id(batch)]
            self._num_bytes -= memoryview(batch).nbytes
        return clip


def _batch_of(clip: bytes | memoryview) -> Any:
    """The object whose memory a clip is in."""
    return clip.obj if isinstance(clip, memoryview) else clip


def _slot_size(size: int) -> int:
    """The bytes on disk that a clip of `size` bytes takes."""
    return 1 << max(size - 1, 0).bit_length()
