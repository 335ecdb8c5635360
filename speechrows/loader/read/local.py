"""Clips of a folder on this machine: read at their places, straight into the samples of a batch."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speechrows.folder.index import Index
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
    """An open file, closed when the last thread that reads it lets go."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class LocalClips:
    """The clips of a folder on this machine; a `ClipSource`."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._files: OrderedDict[int, _File] = OrderedDict()  # by shard, the one used last at the end
        self._opening = threading.Lock()

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """The same micro-batches: nothing is read before it is asked for."""
        return iter(micro_batches)

    def read(self, rows: Int32, samples: Int16) -> None:
        """The samples of these rows' clips, one after another; by several threads at once.

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
        """Read what may be mono PCM 16 WAV: head and samples apart, in one call. Which clips were that."""
        index = self._index
        lengths, num_samples = index.audio_length[rows], index.num_samples[rows]
        plain = may_be_plain(lengths, num_samples)
        heads = np.zeros((len(rows), _SLOT), np.uint8)
        slots, into = heads.data.cast("B"), samples.data.cast("B")
        sizes = PREFIX + lengths - 2 * num_samples
        begins = np.arange(len(rows)) * _SLOT
        places = begins, begins + sizes, 2 * (ends - num_samples), 2 * ends, index.audio_offset[rows], fds
        found = np.zeros(len(rows), np.int64)
        found[plain] = _preadv(
            [
                (fd, (slots[begin:end], into[first:stop]), offset - PREFIX)
                for begin, end, first, stop, offset, fd in np.stack(places, 1)[plain].tolist()
            ]
        )
        plain &= found == PREFIX + lengths
        plain &= heads[:, :PREFIX].copy().view("<u4")[:, 0] == lengths
        rates = index.sampling_rate[rows]
        plain[plain] = are_plain(
            heads[plain, PREFIX:], sizes[plain] - PREFIX, num_samples[plain], rates[plain]
        )
        return plain

    def close(self) -> None:
        """Let go of open files."""
        with self._opening:
            self._files.clear()

    def _open(self, shard: int) -> _File:
        """The open file of a shard, seen to be the one that the index was made of."""
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
            file = _File(f"{index.folder.root}/{index.shards[shard].path}")
        except FileNotFoundError:
            index.check_shard(shard)  # names it
            raise
        index.check_shard(shard)
        return file


def _preadv(reads: Sequence[tuple[int, tuple[memoryview, memoryview], int]]) -> list[int]:
    """The bytes that each read (file, buffers, offset) gave: what is in memory first, then all the rest.

    What is not in memory is asked for at once, so a cold disk has as much to do as there is to read. To ask
    for what is there would cost about a tenth of reading it. Systems other than Linux can not tell what is
    in memory: there, all is read in turn.
    """
    found = [_cached(*read) for read in reads]
    cold = [i for i, (_, buffers, _) in enumerate(reads) if found[i] < sum(map(len, buffers))]
    if hasattr(os, "posix_fadvise"):
        for fd, buffers, offset in (reads[i] for i in cold):
            os.posix_fadvise(fd, offset, sum(map(len, buffers)), os.POSIX_FADV_WILLNEED)
    for i in cold:
        found[i] = os.preadv(*reads[i])
    return found


def _cached(fd: int, buffers: tuple[memoryview, memoryview], offset: int) -> int:
    try:
        return os.preadv(fd, buffers, offset, getattr(os, "RWF_NOWAIT", 0))
    except OSError:  # nothing of it, or a file system that can not tell
        return 0
