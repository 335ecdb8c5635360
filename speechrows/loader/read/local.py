"""Clips of a folder on this machine: read from their offsets straight into the samples of a batch."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from weakref import finalize

import numpy as np
import numpy.typing as npt

from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.read.cells import PREFIX
from speechrows.loader.read.cells import cell_samples
from speechrows.loader.read.pcm import LONGEST_HEAD
from speechrows.loader.read.pcm import Bools
from speechrows.loader.read.pcm import are_plain
from speechrows.loader.read.pcm import may_be_plain
from speechrows.types import Int16
from speechrows.types import Int32

Int64 = npt.NDArray[np.int64]

_SLOT = PREFIX + LONGEST_HEAD
_MAX_OPEN = 256  # files; a process may have 1024 as a rule


class _File:
    """An open file; closed when no thread refers to it any more."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finalize(self, os.close, self.fd)  # at the end of Python too, where `__del__` comes too late


class LocalClips:
    """The clips of a folder on this machine. A `ClipSamples`."""

    def __init__(self, index: IndexedRows) -> None:
        self._index = index
        self._files: OrderedDict[int, _File] = OrderedDict()  # by shard, the one used last at the end
        self._opening = threading.Lock()

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """Return the same micro-batches: nothing is read ahead."""
        return iter(micro_batches)

    def read(self, rows: Int32, samples: Int16) -> None:
        """Fill `samples` [S] with the clips of these rows, one after another; for several threads at once.

        Raises:
            ShortfallError: a shard, or a clip in it, is not what the index says.
        """
        if not len(rows):
            return
        shards = self._index.shard[rows].tolist()
        files = {shard: self._open(shard) for shard in set(shards)}
        fds = np.array([files[shard].fd for shard in shards])
        ends = np.cumsum(self._index.num_samples[rows])
        plain = self._read_plain(rows, fds, ends, samples)
        for i in np.flatnonzero(~plain).tolist():
            row = int(rows[i])
            length, offset = int(self._index.audio_length[row]), int(self._index.audio_offset[row])
            clip = cell_samples(self._index, row, os.pread(int(fds[i]), PREFIX + length, offset - PREFIX))
            samples[ends[i] - len(clip) : ends[i]] = clip

    def _read_plain(self, rows: Int32, fds: Int64, ends: Int64, samples: Int16) -> Bools:
        """Read what may be mono PCM 16 WAV, head and samples apart, in one call; return which clips were."""
        index = self._index
        lengths, num_samples = index.audio_length[rows], index.num_samples[rows]
        plain = may_be_plain(lengths, num_samples)
        heads = np.zeros((len(rows), _SLOT), np.uint8)
        slots, into = heads.data.cast("B"), samples.data.cast("B")
        sizes = PREFIX + lengths - 2 * num_samples
        begins = np.arange(len(rows)) * _SLOT
        places = begins, begins + sizes, 2 * (ends - num_samples), 2 * ends, index.audio_offset[rows], fds
        num_read = np.zeros(len(rows), np.int64)
        num_read[plain] = _preadv(
            [
                (fd, (slots[begin:end], into[first:stop]), offset - PREFIX)
                for begin, end, first, stop, offset, fd in np.stack(places, 1)[plain].tolist()
            ]
        )
        plain &= num_read == PREFIX + lengths
        plain &= heads[:, :PREFIX].copy().view("<u4")[:, 0] == lengths
        rates = index.sampling_rate[rows]
        plain[plain] = are_plain(
            heads[plain, PREFIX:], sizes[plain] - PREFIX, num_samples[plain], rates[plain]
        )
        return plain

    def close(self) -> None:
        """Close the files."""
        with self._opening:
            self._files.clear()

    def _open(self, shard: int) -> _File:
        """The open file of a shard, checked to be the one that the index was made of."""
        with self._opening:
            file = self._files.pop(shard, None)
            if file is None:
                file = self._opened(shard)
                if len(self._files) >= _MAX_OPEN:
                    self._files.popitem(last=False)
            self._files[shard] = file
            return file

    def _opened(self, shard: int) -> _File:
        index = self._index
        try:
            file = _File(index.folder_of(shard).place(index.shards[shard].path))
        except FileNotFoundError:
            index.check_shard(shard)  # names it
            raise
        index.check_shard(shard)
        return file


def _preadv(reads: Sequence[tuple[int, tuple[memoryview, memoryview], int]]) -> list[int]:
    """Make reads (file, buffers, offset), first those in the page cache; return the bytes that each gave.

    All others are announced at once, so that a cold disk has a full queue. To announce what is in memory
    would cost about a tenth of reading it. Systems other than Linux do not say what is in memory: there,
    all is read in turn.
    """
    num_read = [_cached(*read) for read in reads]
    cold = [i for i, (_, buffers, _) in enumerate(reads) if num_read[i] < sum(map(len, buffers))]
    if hasattr(os, "posix_fadvise"):
        for fd, buffers, offset in (reads[i] for i in cold):
            os.posix_fadvise(fd, offset, sum(map(len, buffers)), os.POSIX_FADV_WILLNEED)
    for i in cold:
        num_read[i] = os.preadv(*reads[i])
    return num_read


def _cached(fd: int, buffers: tuple[memoryview, memoryview], offset: int) -> int:
    try:
        return os.preadv(fd, buffers, offset, getattr(os, "RWF_NOWAIT", 0))
    except OSError:  # nothing of it is cached, or the file system can not say
        return 0
