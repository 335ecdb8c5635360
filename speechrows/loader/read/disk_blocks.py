"""Blocks of int32 in a temporary file: appended, and taken in any order."""

import mmap
import os
import tempfile
import threading
from weakref import finalize

import numpy as np
import numpy.typing as npt

from speechrows.errors import ShortfallError
from speechrows.loader.plan.order import expanded
from speechrows.types import Int32

Int64 = npt.NDArray[np.int64]

BLOCK = 16  # values: 64 bytes
_SMALLEST = 1 << 16  # bytes that are mapped at first
_PIECE = 1 << 16  # bytes written at once
_MAX_MAPPED = 64 << 20  # bytes that stay mapped: they count as memory of this process


class DiskBlocks:
    """Blocks of BLOCK values int32, in a file without a name in `TMPDIR`; for several threads of one process.

    It is mapped: so any ranges are gathered by one call of numpy, during which other threads of Python go
    on. To read each by a call of its own had them wait for one another. The file is gone with the object.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="speechrows-", buffering=0)  # noqa: SIM115
        finalize(self, self._file.close)
        self._end = 0  # in bytes
        self._lock = threading.Lock()
        self._num_taken = 0  # ranges since the last time that nothing was mapped
        self._map_bytes(_SMALLEST)

    def append(self, values: Int32) -> int:
        """Append values [B x BLOCK]; return the number of the first block.

        Raises:
            ShortfallError: there is no room on the disk.
        """
        with self._lock:
            begin, self._end = self._end, self._end + values.nbytes
        try:
            written = self._write(values.data.cast("B"), begin)
            with self._lock:
                if begin + written > len(self._map):
                    self._map_bytes(2 * self._end)
        except OSError:
            written = 0
        if written < values.nbytes:
            raise ShortfallError(
                f"{tempfile.gettempdir()}: found no room for what rows say, after {begin} bytes; expected "
                "about 4 a token and 100 a row. Set TMPDIR to a larger place"
            )
        return begin // (BLOCK * values.itemsize)

    def take(self, begins: Int64, sizes: Int32) -> Int32:
        """The values of `sizes` [R] blocks from those numbered `begins` [R] on, one after another."""
        self._num_taken += len(begins)
        if min(self._num_taken * _PIECE, self._end) > _MAX_MAPPED:  # what is touched maps its piece
            self._num_taken = 0
            self._map.madvise(mmap.MADV_DONTNEED)
        return self._blocks.take(expanded(begins, sizes), axis=0).ravel()

    def _write(self, data: memoryview, begin: int) -> int:
        """Write bytes from a place on, and return how many were written.

        Linux caches what is written at once as one piece, and maps all of it where any of it is touched.
        """
        written = 0
        for at in range(0, len(data), _PIECE):
            written += os.pwrite(self._file.fileno(), data[at : at + _PIECE], begin + at)
        return written

    def _map_bytes(self, num_bytes: int) -> None:
        """Map so much of the file, most of it yet to be written: a hole takes no disk."""
        os.ftruncate(self._file.fileno(), num_bytes)
        self._map = mmap.mmap(self._file.fileno(), num_bytes, prot=mmap.PROT_READ)
        self._map.madvise(mmap.MADV_RANDOM)  # what lies around a range is not what is taken next
        self._blocks = np.frombuffer(self._map, np.int32).reshape(-1, BLOCK)
