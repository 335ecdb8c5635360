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
from speechrows.loader.read.many_reads import read_many
from speechrows.loader.read.pcm import LONGEST_HEAD
from speechrows.loader.read.pcm import Bools
from speechrows.loader.read.pcm import are_plain
from speechrows.loader.read.pcm import may_be_plain
from speechrows.types import Int16
from speechrows.types import Int32

Int64 = npt.NDArray[np.int64]

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
        """Read what may be mono PCM 16 WAV, head and samples apart; return which clips were.

        Arrays here are short, or read by `take`: numpy lets go of Python's lock for a longer one, to have it
        back at once, but a thread that waits for it is woken each time, for nothing.
        """
        index = self._index
        lengths, num_samples = index.audio_length.take(rows), index.num_samples.take(rows)
        plain = may_be_plain(lengths, num_samples)
        if not plain.all():
            chosen = np.flatnonzero(plain)
            plain[chosen] = self._read_plain(rows[chosen], [fds[i] for i in chosen], ends[chosen], samples)
            return plain
        prefixes, heads = np.zeros(len(rows), "<u4"), np.zeros((len(rows), LONGEST_HEAD), np.uint8)
        begins, sizes = np.empty((2, 3, len(rows)), np.int64)
        begins[:2] = np.arange(len(rows)) * [[PREFIX], [LONGEST_HEAD]]
        begins[2] = 2 * (ends - num_samples)
        sizes[0], sizes[1], sizes[2] = PREFIX, lengths - 2 * num_samples, 2 * num_samples
        offsets = index.audio_offset.take(rows) - PREFIX
        num_read = read_many(fds, offsets, (prefixes, heads, samples), begins, sizes)
        is_whole = (num_read == PREFIX + lengths) & (prefixes == lengths)
        return is_whole & are_plain(heads, sizes[1], num_samples, index.sampling_rate.take(rows))

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
