"""Micro-batches of a plan, read ahead by threads, in order: tokens, codes and samples of their rows."""

import os
from collections import deque
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from weakref import WeakSet
from weakref import finalize

import numpy as np

from speechrows.errors import UsageError
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.folder.placeholders import Placeholders
from speechrows.loader.buffers import Buffers
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.ragged import Ragged
from speechrows.loader.read.clips import ClipSamples
from speechrows.loader.read.clips import open_clips
from speechrows.loader.read.row_store import RowStore
from speechrows.types import Int16

Allocate = Callable[[int], Int16]  # samples -> int16 [S]


def pageable(num_samples: int) -> Int16:
    """Allocate a buffer of `num_samples` in plain memory."""
    return np.empty(num_samples, np.int16)


class Stream:
    """Reads micro-batches of an index' rows, in their order, ahead of their use.

    Each is read by one of `num_threads`; up to `prefetch` are being read or wait. Neither number changes
    what is read. Samples lie in buffers from `allocate`, which are used again once they are released;
    without `with_clips` none are read. A stream is read only in the process that made it.
    """

    def __init__(
        self,
        index: IndexedRows,
        *,
        store: RowStore | None = None,
        open_clips: Callable[[IndexedRows], ClipSamples] = open_clips,
        num_threads: int = 2,
        prefetch: int = 4,
        allocate: Allocate = pageable,
        with_clips: bool = True,
    ) -> None:
        for name, value in (("num_threads", num_threads), ("prefetch", prefetch)):
            if value < 1:
                raise UsageError(f"{name}: found {value}, expected a number above 0")
        self._index = index
        self._store = store or RowStore(index)
        self._open_clips = open_clips
        self._num_threads = num_threads
        self._prefetch = prefetch
        self._buffers = Buffers(allocate)
        self._placeholders = Placeholders.of(index)
        self._with_clips = with_clips
        self._tasks = np.array([shard.task for shard in index.shards], object)
        self._process = os.getpid()
        self._readings = WeakSet[Generator[Ragged]]()
        # A script may end while it still reads: close that while all of Python is there.
        finalize(self, _close, self._readings, self._process)

    def read(self, micro_batches: Iterable[MicroBatch]) -> Generator[Ragged]:
        """Read the rows of each micro-batch.

        When the iterator ends, is closed or deleted, its threads have ended and no file stays open.

        Raises:
            ShortfallError: a row is not what the index says; raised after the micro-batches before it.
            UsageError: this is another process than the stream was made in.
        """
        reading = self._reading(micro_batches)
        self._readings.add(reading)
        return reading

    def _reading(self, micro_batches: Iterable[MicroBatch]) -> Generator[Ragged]:
        if self._process != os.getpid():
            raise UsageError("a stream was taken into another process by fork; make one in each that reads")
        pool = ThreadPoolExecutor(self._num_threads, "speechrows-read")
        clips, ahead = self._open_clips(self._index), deque[Future[Ragged]]()
        try:
            coming = clips.plan(micro_batches) if self._with_clips else iter(micro_batches)
            ahead.extend(pool.submit(self._read, batch, clips) for batch in islice(coming, self._prefetch))
            while ahead:
                ragged = ahead.popleft().result()
                ahead.extend(pool.submit(self._read, batch, clips) for batch in islice(coming, 1))
                yield ragged
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            clips.close()  # before the threads have ended: one of them may wait for a store
            pool.shutdown()
            for future in ahead:
                if not future.cancelled() and not future.exception():
                    future.result().release()

    def _read(self, micro_batch: MicroBatch, clips: ClipSamples) -> Ragged:
        index, rows = self._index, micro_batch.rows
        tokens = self._store.read(rows)
        num_audio_tokens = self._placeholders.count(rows)
        clip_rows = np.flatnonzero(num_audio_tokens).astype(np.int32)[: None if self._with_clips else 0]
        with_clips = rows[clip_rows]
        num_samples = index.num_samples[with_clips]
        size = int(num_samples.sum())
        buffer = self._buffers.take(size)
        clips.read(with_clips, buffer[:size])
        return Ragged(
            micro_batch=micro_batch,
            row_ids=tokens.row_ids,
            tasks=tuple(self._tasks[index.shard[rows]].tolist()),
            turn_numbers=index.turn_number[rows],
            num_tokens=tokens.num_tokens,
            input_ids=tokens.input_ids,
            labels=tokens.labels,
            samples=buffer[:size],
            num_samples=num_samples.astype(np.int32),
            sampling_rates=index.sampling_rate[with_clips],
            num_audio_tokens=num_audio_tokens[clip_rows],
            clip_rows=clip_rows,
            codec=tokens.codec,
            codes=tokens.codes,
            num_frames=tokens.num_frames,
            code_rows=tokens.code_rows,
            notes=tokens.notes,
            release=self._buffers.lend(buffer),
        )


def _close(readings: Iterable[Generator[Ragged]], process: int) -> None:
    if process == os.getpid():  # a fork has not its parent's threads
        for reading in list(readings):
            reading.close()
