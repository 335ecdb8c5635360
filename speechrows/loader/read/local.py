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
from speechrows.loader.read.pcm import SHORTEST_HEAD
from speechrows.loader.read.pcm import Bools
from speechrows.loader.read.pcm import are_plain
from speechrows.loader.read.pcm import may_be_plain
from speechrows.types import Int16
from speechrows.types import Int32

Int64 = npt.NDArray[np.int64]

_Read = tuple[int, Sequence[memoryview], int]  # of a file, into buffers, from an offset on

_IF_CACHED = getattr(os, "RWF_NOWAIT", 0)
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
        index = self._index
        shards = index.shard.take(rows).tolist()
        files = {shard: self._open(shard) for shard in set(shards)}
        fds = [files[shard].fd for shard in shards]
        ends = np.cumsum(index.num_samples.take(rows))
        plain = self._read_plain(rows, fds, ends, samples)
        for i in np.flatnonzero(~plain).tolist():
            row = int(rows[i])
            length, offset = int(index.audio_length[row]), int(index.audio_offset[row])
            clip = cell_samples(index, row, os.pread(fds[i], PREFIX + length, offset - PREFIX))
            samples[ends[i] - len(clip) : ends[i]] = clip

    def _read_plain(self, rows: Int32, fds: Sequence[int], ends: Int64, samples: Int16) -> Bools:
        """Read what may be mono PCM 16 WAV, head and samples apart, in one call; return which clips were.

        Arrays here are short, or read by `take`: numpy lets go of Python's lock for a longer one, to have it
        back at once, but a thread that waits for it is woken each time, for nothing.
        """
        index = self._index
        lengths, num_samples = index.audio_length.take(rows), index.num_samples.take(rows)
        plain = may_be_plain(lengths, num_samples)
        sizes = np.where(plain, lengths - 2 * num_samples, SHORTEST_HEAD)
        prefixes, heads = np.zeros(len(rows), "<u4"), np.zeros((len(rows), LONGEST_HEAD), np.uint8)
        prefix, head, into = prefixes.data, heads.data.cast("B"), samples.data.cast("B")
        offsets, stops = index.audio_offset.take(rows) - PREFIX, np.arange(len(rows)) * LONGEST_HEAD + sizes
        places = offsets, stops - sizes, stops, 2 * (ends - num_samples), 2 * ends
        reads = [
            (fd, (prefix[i : i + 1], head[start:stop], into[begin:end]), offset)
            for i, (fd, offset, start, stop, begin, end) in enumerate(
                zip(fds, *[place.tolist() for place in places], strict=True)
            )
            if plain[i]
        ]
        num_read = np.zeros(len(rows), np.int64)
        num_read[plain] = _preadv(reads, (PREFIX + lengths[plain]).tolist())
        plain &= num_read == PREFIX + lengths
        plain &= prefixes == lengths
        plain &= are_plain(heads, sizes, num_samples, index.sampling_rate.take(rows))
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


def _preadv(reads: Sequence[_Read], sizes: Sequence[int]) -> list[int]:
    """Make reads of so many bytes, first those in the page cache; return the bytes that each gave.

    All others are announced at once, so that a cold disk has a full queue. To announce what is in memory
    would cost about a tenth of reading it. Systems other than Linux do not say what is in memory: there,
    all is read in turn.
    """
    num_read = [_cached(*read) for read in reads]
    cold = [i for i, (count, size) in enumerate(zip(num_read, sizes, strict=True)) if count < size]
    if hasattr(os, "posix_fadvise"):
        for i in cold:
            fd, _, offset = reads[i]
            os.posix_fadvise(fd, offset, sizes[i], os.POSIX_FADV_WILLNEED)
    for i in cold:
        num_read[i] = os.preadv(*reads[i])
    return num_read


def _cached(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
    try:
        return os.preadv(fd, buffers, offset, _IF_CACHED)
    except OSError:  # nothing of it is cached, or the file system can not say
        return 0
