"""Where a stream has its clips from: shards on this machine, or bytes that come from a remote store."""

from collections import deque
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from speechrows.folder.index import Index
from speechrows.folder.placeholders import Placeholders
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.read.cells import cell_samples
from speechrows.loader.read.local import LocalClips
from speechrows.loader.read.remote import WINDOW_BYTES
from speechrows.loader.read.remote import ClipBytes
from speechrows.loader.read.remote import RemoteClips
from speechrows.types import Int16
from speechrows.types import Int32


class ClipSource(Protocol):
    """The clips of an index, while its micro-batches are read once."""

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """The same micro-batches; a source that looks ahead knows what will be asked of it."""
        ...

    def read(self, rows: Int32, samples: Int16) -> None:
        """Fill `samples` [S] with the clips of these rows, one after another; by several threads at once."""
        ...

    def close(self) -> None:
        """Let go of everything; threads that are reading may fail."""
        ...


def open_clips(index: Index, *, window_bytes: int = WINDOW_BYTES) -> ClipSource:
    """The source for the folder of an index; of a remote one, two windows of so many bytes are in memory."""
    if index.folder.is_local:
        return LocalClips(index)
    return ByteClips(index, RemoteClips(index, window_bytes=window_bytes))


class ByteClips:
    """A source of clips whose bytes come through memory."""

    def __init__(self, index: Index, clips: ClipBytes) -> None:
        self._index = index
        self._clips = clips
        self._placeholders = Placeholders.of(index)

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """The same micro-batches, their clips asked for ahead: of the rows that are heard."""
        passed = deque[MicroBatch]()
        for _ in self._clips.plan(self._heard(micro_batches, passed)):
            yield passed.popleft()

    def _heard(self, micro_batches: Iterable[MicroBatch], passed: deque[MicroBatch]) -> Iterator[MicroBatch]:
        for one in micro_batches:
            passed.append(one)
            yield replace(one, rows=one.rows[self._placeholders.count(one.rows) > 0])

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
        """Let go of everything."""
        self._clips.close()
