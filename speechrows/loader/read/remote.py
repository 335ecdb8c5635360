"""Clips of a folder that is not on this machine: few large requests, ahead of the training steps.

The plan tells which clips come next. As many micro-batches as a window's bytes have room for are read
at once: their clips in file order, neighbours in one request, many requests side by side. While they
are taken, the next window is read; so memory holds two of them at most.
"""

import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Protocol
from typing import TypeVar

import numpy as np

from speechrows.errors import SpeechRowsError
from speechrows.errors import StoreError
from speechrows.folder.index import Index
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.read.cells import PREFIX
from speechrows.storage.filesystem import LOG_IN
from speechrows.storage.filesystem import is_refusal
from speechrows.storage.retry import retry
from speechrows.types import Int32

WINDOW_BYTES = 512 << 20
_FIRST, _GROWTH = 16, 4  # the first window is this part of one: the first batch is soon there; the next grow
_PART = 8  # a window ends with its row groups where it holds this part of what there is room for
_CONNECTIONS = 16
_GAP_BYTES = 256 << 10  # between two clips of one request: read and thrown away
_REQUEST_BYTES = 8 << 20

Clips = dict[int, bytes]  # by row
T = TypeVar("T")


class ClipBytes(Protocol):
    """Where a stream has the bytes of its clips from."""

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """The same micro-batches, looking ahead: what is passed here can be taken."""
        ...

    def take(self, row: int) -> memoryview:
        """A clip with the four bytes of its length before it; each row of a micro-batch once."""
        ...

    def close(self) -> None:
        """Stop reading; nothing can be taken any more."""
        ...


class RemoteClips:
    """The clips of an index, read by ranges from a remote store. A `ClipBytes`; `take` is for any thread.

    A store that does not answer is asked again; a shard that is not the one of the index is refused.
    """

    def __init__(self, index: Index, *, window_bytes: int = WINDOW_BYTES) -> None:
        self._index = index
        self._window_bytes = window_bytes
        self._pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="speechrows-remote")
        self._closing = threading.Event()
        self._checks: dict[int, Future[None]] = {}  # by shard
        self._coming: dict[int, Future[Clips]] = {}  # by row

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """The same micro-batches; two windows are on their way or wait to be taken."""
        windows = self._windows(micro_batches)
        current = following = deque[MicroBatch]()
        try:
            current = self._begun(next(windows, deque()))
            while current:
                following = self._begun(next(windows, deque()))
                while current:
                    yield current.popleft()
                current, following = following, deque()
        finally:  # abandoned: what was not passed will not be taken
            self._forget(row for one in chain(current, following) for row in one.rows.tolist())

    def take(self, row: int) -> memoryview:
        """A clip with the four bytes of its length before it, waited for; each row of a micro-batch once.

        Raises:
            StoreError: the store did not answer, or refused.
            ShortfallError: the shard is not the file that the index was made of.
        """
        return memoryview(self._coming.pop(row).result().pop(row))

    def close(self) -> None:
        """Stop reading: requests that are under way end, others do not begin."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)
        self._coming.clear()

    def _forget(self, rows: Iterable[int]) -> None:
        forgotten = {self._coming.pop(row) for row in rows if row in self._coming}
        for clips in forgotten.difference(self._coming.values()):
            clips.cancel()

    def _windows(self, micro_batches: Iterable[MicroBatch]) -> Iterator[deque[MicroBatch]]:
        """Micro-batches that are read together: until the room is full, or row groups end in the plan too."""
        room, held = self._window_bytes // _FIRST, 0
        window, groups = deque[MicroBatch](), set[tuple[int, int]]()
        for micro_batch in micro_batches:
            rows = micro_batch.rows
            size = int(self._index.audio_length[rows].sum(dtype=np.int64))
            mine = {*zip(self._index.shard[rows].tolist(), self._index.row_group[rows].tolist(), strict=True)}
            if window and (held + size > room or (_PART * held > room and groups.isdisjoint(mine))):
                yield window
                room, held = min(_GROWTH * room, self._window_bytes), 0
                window, groups = deque[MicroBatch](), set[tuple[int, int]]()
            window.append(micro_batch)
            held += size
            groups |= mine
        if window:
            yield window

    def _begun(self, window: deque[MicroBatch]) -> deque[MicroBatch]:
        """Ask for the clips of a window, first those that are needed first."""
        rows = np.concatenate([np.empty(0, np.int32), *(micro_batch.rows for micro_batch in window)])
        needed = {row: place for place, row in enumerate(rows.tolist())}
        requests = self._requests(rows)
        for shard, mine in sorted(requests, key=lambda request: min(needed[row] for row in request[1])):
            if shard not in self._checks:
                self._checks[shard] = self._pool.submit(self._check, shard)
            clips = self._pool.submit(self._read, shard, mine)
            self._coming.update(dict.fromkeys(mine, clips))
        return window

    def _requests(self, rows: Int32) -> list[tuple[int, list[int]]]:
        """Shard and rows of each request: neighbours in a shard, with little between them."""
        index = self._index
        rows = rows[np.lexsort((index.audio_offset[rows], index.shard[rows]))]
        starts = index.audio_offset[rows] - PREFIX
        stops = index.audio_offset[rows] + index.audio_length[rows]
        requests: list[tuple[int, list[int]]] = []
        begin = end = 0
        for row, shard, start, stop in zip(
            rows.tolist(), index.shard[rows].tolist(), starts.tolist(), stops.tolist(), strict=True
        ):
            near = start - end <= _GAP_BYTES and stop - begin <= _REQUEST_BYTES
            if not requests or requests[-1][0] != shard or not near:
                requests.append((shard, []))
                begin = start
            requests[-1][1].append(row)
            end = stop
        return requests

    def _check(self, shard: int) -> None:
        self._asked(shard, lambda: self._index.check_shard(shard))

    def _read(self, shard: int, rows: list[int]) -> Clips:
        """The clips of a request, each by itself, so that one that was taken is not held any more."""
        self._checks[shard].result()  # asked for before this: never behind it in the queue
        index, path = self._index, self._index.shards[shard].path
        starts = (index.audio_offset[rows] - PREFIX).tolist()
        stops = (index.audio_offset[rows] + index.audio_length[rows]).tolist()
        begin, end = starts[0], stops[-1]
        data = self._asked(shard, lambda: index.folder.read_range(path, begin, end))
        parts = zip(rows, starts, stops, strict=True)
        return {row: data[start - begin : stop - begin] for row, start, stop in parts}

    def _asked(self, shard: int, read: Callable[[], T]) -> T:
        try:
            return retry(read, self._closing.wait)
        except SpeechRowsError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())
            told = f"{self._index.folder.address}: {self._index.shards[shard].path}: the store"
            if is_refusal(error):
                raise StoreError(f"{told} refused ({said}). {LOG_IN}") from error
            raise StoreError(
                f"{told} did not answer, asked again and again ({said}). Go on from the last saved state: "
                "no row is lost or doubled"
            ) from error
