"""The room where clips wait for the rest of their conversation, in memory and then on disk."""

import os
import tempfile
from typing import IO

from speechrows.errors import UsageError

WAITING_BYTES = 256 << 20  # in memory


class WaitingRoom:
    """Clips that wait for the rest of their conversation: in memory up to `limit` bytes, then on disk.

    The disk is a file without a name in the system's temporary folder (TMPDIR): it is gone with
    the process. Its space is reused, in places whose sizes are powers of two.
    """

    def __init__(self, limit: int = WAITING_BYTES) -> None:
        self._limit = limit
        self._held: dict[str, bytes] = {}
        self._num_bytes = 0
        self._spooled: dict[str, tuple[int, int]] = {}  # place in the file, size
        self._free: dict[int, list[int]] = {}  # places by their size
        self._end = 0
        self._file: IO[bytes] | None = None

    def __contains__(self, key: str) -> bool:
        return key in self._held or key in self._spooled

    def __len__(self) -> int:
        return len(self._held) + len(self._spooled)

    def put(self, key: str, data: bytes) -> None:
        """Let a clip wait; one of that key is dropped.

        Raises:
            UsageError: the temporary folder has no room.
        """
        self.drop(key)
        if self._num_bytes + len(data) <= self._limit:
            self._held[key] = data
            self._num_bytes += len(data)
            return
        try:
            self._spool(key, data)
        except OSError as error:
            raise UsageError(
                f"{tempfile.tempdir or 'TMPDIR'}: found {error.strerror} while {len(self)} clips wait for "
                "the rest of their conversation, expected room for them: let TMPDIR name a folder that has "
                "more, and run the same command again (an unpacked corpus needs none)"
            ) from error

    def _spool(self, key: str, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed with the room
        room = _room(len(data))
        free = self._free.get(room)
        if free:
            place = free.pop()
        else:
            place, self._end = self._end, self._end + room
        self._spooled[key] = place, len(data)
        left = memoryview(data)
        while left:
            done = os.pwrite(self._file.fileno(), left, place)
            place, left = place + done, left[done:]

    def take(self, key: str) -> bytes:
        """A clip, which waits no longer.

        Raises:
            KeyError: it is not here.
        """
        if key in self._held:
            data = self._held.pop(key)
            self._num_bytes -= len(data)
            return data
        place, size = self._spooled[key]
        assert self._file is not None
        self._file.seek(place)
        data = self._file.read(size)
        self.drop(key)
        return data

    def drop(self, key: str) -> None:
        """Forget a clip, if it is here."""
        self._num_bytes -= len(self._held.pop(key, b""))
        if key in self._spooled:
            place, size = self._spooled.pop(key)
            self._free.setdefault(_room(size), []).append(place)
            if not self._spooled and self._file is not None:
                self._file.truncate(0)  # gives the disk back
                self._free, self._end = {}, 0


def _room(size: int) -> int:
    """The place that a clip of `size` bytes takes on disk."""
    return 1 << max(size - 1, 0).bit_length()
