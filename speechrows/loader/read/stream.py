"""Micro-batches of a plan, read ahead by threads, in order: what rows say, and their clips' samples."""

import os
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.placeholders import Placeholders
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.ragged import Ragged
from speechrows.loader.read.row_store import RowTexts
from speechrows.loader.read.sources import ClipSource
from speechrows.loader.read.sources import open_clips
from speechrows.types import Int16

Allocate = Callable[[int], Int16]  # samples -> int16 [S]


def pageable(num_samples: int) -> Int16:
    """A buffer of so many samples in plain memory."""
    return np.empty(num_samples, np.int16)


class Stream:
    """Reads micro-batches of an index' rows, in the order in which they are asked for.

    Each is read whole by one of `num_threads`; up to `prefetch` wait or are being read. What comes is
    the same whatever these are. Samples lie in buffers from `allocate` that are used again once they
    are released. A stream is read in the process that made it.
    """

    def __init__(
        self,
        index: Index,
        *,
        texts: RowTexts | None = None,
        open_source: Callable[[Index], ClipSource] = open_clips,
        num_threads: int = 2,
        prefetch: int = 4,
        allocate: Allocate = pageable,
    ) -> None:
        for name, value in (("num_threads", num_threads), ("prefetch", prefetch)):
            if value < 1:
                raise UsageError(f"{name}: found {value}, expected a number above 0")
        self._index = index
        self._texts = texts or RowTexts(index)
        self._open_source = open_source
        self._num_threads = num_threads
        self._prefetch = prefetch
        self._buffers = _Buffers(allocate)
        self._placeholders = Placeholders.of(index)
        self._tasks = np.array([shard.task for shard in index.shards], object)
        self._process = os.getpid()

    def read(self, micro_batches: Iterable[MicroBatch]) -> Generator[Ragged]:
        """The rows of each micro-batch.

        When the iterator ends, is closed or let go, its threads have ended and nothing stays open.

        Raises:
            ShortfallError: a row is not what the index says; in its place, after the micro-batches before.
            UsageError: this is another process than the stream was made in.
        """
        if self._process != os.getpid():
            raise UsageError("a stream was taken into another process by fork; make one in each that reads")
        pool = ThreadPoolExecutor(self._num_threads, "speechrows-read")
        source, ahead = self._open_source(self._index), deque[Future[Ragged]]()
        try:
            coming = source.plan(micro_batches)
            ahead.extend(pool.submit(self._read, one, source) for one in islice(coming, self._prefetch))
            while ahead:
                ragged = ahead.popleft().result()
                ahead.extend(pool.submit(self._read, one, source) for one in islice(coming, 1))
                yield ragged
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            source.close()  # before the threads have ended: one of them may wait for a store
            pool.shutdown()
            for future in ahead:
                if not future.cancelled() and not future.exception():
                    future.result().release()

    def _read(self, micro_batch: MicroBatch, source: ClipSource) -> Ragged:
        index, rows = self._index, micro_batch.rows
        texts = self._texts.read(rows)
        num_audio_tokens = self._placeholders.count(rows)
        clip_rows = np.flatnonzero(num_audio_tokens).astype(np.int32)
        clips = rows[clip_rows]
        num_samples = index.num_samples[clips]
        size = int(num_samples.sum())
        buffer = self._buffers.take(size)
        source.read(clips, buffer[:size])
        return Ragged(
            micro_batch=micro_batch,
            row_ids=texts.row_ids,
            tasks=tuple(self._tasks[index.shard[rows]].tolist()),
            turn_numbers=index.turn_number[rows],
            num_tokens=texts.num_tokens,
            input_ids=texts.input_ids,
            labels=texts.labels,
            samples=buffer[:size],
            num_samples=num_samples.astype(np.int32),
            sampling_rates=index.sampling_rate[clips],
            num_audio_tokens=num_audio_tokens[clip_rows],
            clip_rows=clip_rows,
            codec=texts.codec,
            codes=texts.codes,
            num_frames=texts.num_frames,
            code_rows=texts.code_rows,
            release=self._buffers.lend(buffer),
        )


class _Buffers:
    """Buffers of samples that are used again."""

    def __init__(self, allocate: Allocate) -> None:
        self._allocate = allocate
        self._free: list[Int16] = []
        self._lock = threading.Lock()

    def take(self, num_samples: int) -> Int16:
        """A buffer of so many samples or more. One that is too small makes room for a larger one."""
        with self._lock:
            self._free.sort(key=len)
            for place, buffer in enumerate(self._free):
                if len(buffer) >= num_samples:
                    return self._free.pop(place)
            del self._free[:1]
        return self._allocate(num_samples + num_samples // 8)

    def lend(self, buffer: Int16) -> Callable[[], None]:
        """What gives a buffer back, once however often it is called."""
        lent = [buffer]

        def release() -> None:
            with self._lock:
                if lent:
                    self._free.append(lent.pop())

        return release
