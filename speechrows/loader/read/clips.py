"""Clips as samples, whether their shards lie on this machine or in a remote store."""

from collections import deque
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from speechrows.folder.indexed_rows import IndexedRows
from speechrows.folder.placeholders import Placeholders
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.read.cells import cell_samples
from speechrows.loader.read.local import LocalClips
from speechrows.loader.read.remote import WINDOW_BYTES
from speechrows.loader.read.remote import ClipBytes
from speechrows.loader.read.remote import RemoteClips
from speechrows.storage.block_cache import BlockCache
from speechrows.types import Int16
from speechrows.types import Int32


class ClipSamples(Protocol):
    """The samples of an index' clips, for one reading of its micro-batches."""

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """Return the same micro-batches; what is read ahead is read in their order."""
        ...

    def read(self, rows: Int32, samples: Int16) -> None:
        """Fill `samples` [S] with the clips of these rows, one after another; for several threads at once."""
        ...

    def close(self) -> None:
        """Stop reading and close files; threads that are reading may fail."""
        ...


def open_clips(
    index: IndexedRows, *, window_bytes: int = WINDOW_BYTES, cache: BlockCache | None = None
) -> ClipSamples:
    """The clips of an index; of remote ones, at most two windows of `window_bytes` are in memory.

    With a `cache`, remote ones are read through it.
    """
    is_local = index.is_local
    if is_local.all():
        return LocalClips(index)
    remote = ByteClips(index, RemoteClips(index, window_bytes=window_bytes, cache=cache))
    return MixedClips(index, LocalClips(index), remote, is_local) if is_local.any() else remote


class ByteClips:
    """Clips decoded from bytes in memory. A `ClipSamples`."""

    def __init__(self, index: IndexedRows, clips: ClipBytes) -> None:
        self._index = index
        self._clips = clips
        self._placeholders = Placeholders.of(index)

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """Return the same micro-batches, their clips read ahead: those of rows with placeholders."""
        passed = deque[MicroBatch]()
        for _ in self._clips.plan(self._with_audio(micro_batches, passed)):
            yield passed.popleft()

    def _with_audio(
        self, micro_batches: Iterable[MicroBatch], passed: deque[MicroBatch]
    ) -> Iterator[MicroBatch]:
        for micro_batch in micro_batches:
            passed.append(micro_batch)
            rows = micro_batch.rows
            yield replace(micro_batch, rows=rows[self._placeholders.count(rows) > 0])

    def read(self, rows: Int32, samples: Int16) -> None:
        """Fill `samples` [S] with the clips of these rows, one after another.

        Raises:
            ShortfallError: a clip is not what the index says.
            StoreError: the store did not answer.
        """
        ends = np.cumsum(self._index.num_samples[rows]).tolist()
        for row, end in zip(rows.tolist(), ends, strict=True):
            clip = cell_samples(self._index, row, self._clips.take(row))
            samples[end - len(clip) : end] = clip

    def close(self) -> None:
        """Stop reading."""
        self._clips.close()


class MixedClips:
    """Clips of which some are on this machine and others in a remote store. A `ClipSamples`."""

    def __init__(
        self, index: IndexedRows, local: LocalClips, remote: ByteClips, is_local: npt.NDArray[np.bool_]
    ) -> None:
        self._index = index
        self._local = local
        self._remote = remote
        self._is_local = is_local  # by shard

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """Return the same micro-batches, their remote clips read ahead."""
        passed = deque[MicroBatch]()
        for _ in self._remote.plan(self._of_remote(micro_batches, passed)):
            yield passed.popleft()

    def _of_remote(
        self, micro_batches: Iterable[MicroBatch], passed: deque[MicroBatch]
    ) -> Iterator[MicroBatch]:
        for micro_batch in micro_batches:
            passed.append(micro_batch)
            rows = micro_batch.rows
            yield replace(micro_batch, rows=rows[~self._is_local[self._index.shard[rows]]])

    def read(self, rows: Int32, samples: Int16) -> None:
        """Fill `samples` [S] with the clips of these rows, one after another.

        Raises:
            ShortfallError: a clip is not what the index says.
            StoreError: the store did not answer.
        """
        is_local, counts = self._is_local[self._index.shard[rows]], self._index.num_samples[rows]
        for reader, are_its in ((self._local, is_local), (self._remote, ~is_local)):
            part = np.empty(int(counts[are_its].sum()), np.int16)
            reader.read(rows[are_its], part)
            samples[np.repeat(are_its, counts)] = part

    def close(self) -> None:
        """Stop reading and close files."""
        self._remote.close()
        self._local.close()
