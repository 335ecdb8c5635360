"""Clips of a folder that is not on this machine: few large requests, ahead of the training steps.

The plan says which clips come next. As many micro-batches as fit into a window's bytes are read at
once: their clips in file order, neighbours in one request, many requests in parallel. While one window
is used, the next is read, so at most two are in memory.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any
from typing import Protocol
from typing import TypeVar

import numpy as np

from speechrows.errors import SpeechRowsError
from speechrows.errors import StoreError
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.read.cells import PREFIX
from speechrows.storage.block_cache import BlockCache
from speechrows.storage.filesystem import how_to_log_in
from speechrows.storage.filesystem import is_refusal
from speechrows.storage.filesystem import of_this_process
from speechrows.storage.filesystem import stamp_of
from speechrows.storage.retry import retry
from speechrows.types import Int32

WINDOW_BYTES = 512 << 20
_FIRST, _GROWTH = 16, 4  # the first window is a sixteenth: the first batch comes soon; the next ones grow
_EARLIEST = 8  # from an eighth of its bytes on, a window may end where its row groups end
_CONNECTIONS = 16
_GAP_BYTES = 256 << 10  # at most, between two clips of one request: read and discarded
_REQUEST_BYTES = 8 << 20

BytesByRow = dict[int, bytes]
T = TypeVar("T")


class ClipBytes(Protocol):
    """The bytes of an index' clips, for one reading of its micro-batches."""

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """Return the same micro-batches, read ahead: the clips of those returned can be taken."""
        ...

    def take(self, row: int) -> memoryview:
        """A clip behind the four bytes of its length; a row as often as it came in micro-batches."""
        ...

    def close(self) -> None:
        """Stop reading; nothing can be taken any more."""
        ...


class RemoteClips:
    """The clips of an index, read by ranges from a remote store. A `ClipBytes`; any thread may `take`.

    A failed request is retried; a shard that is not the one of the index is refused.
    """

    def __init__(
        self, index: IndexedRows, *, window_bytes: int = WINDOW_BYTES, cache: BlockCache | None = None
    ) -> None:
        self._index = index
        self._window_bytes = window_bytes
        self._cache = cache
        self._pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="speechrows-remote")
        self._closing = threading.Event()
        self._checks: dict[int, Future[None]] = {}  # by shard
        self._contents: dict[int, str] = {}  # by shard
        # By row, as often as it comes: where its bytes are or will be, and whether it comes there once.
        self._coming: dict[int, deque[tuple[Future[BytesByRow], bool]]] = {}
        self._taking = threading.Lock()

    def plan(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """Return the same micro-batches; two windows of them are being read or wait to be taken."""
        windows = self._windows(micro_batches)
        current = following = deque[MicroBatch]()
        try:
            current = self._start(next(windows, deque()))
            while current:
                following = self._start(next(windows, deque()))
                while current:
                    yield current.popleft()
                current, following = following, deque()
        finally:  # abandoned: what was not passed will not be taken
            self._forget(row for batch in chain(current, following) for row in batch.rows.tolist())

    def take(self, row: int) -> memoryview:
        """Wait for a clip, behind the four bytes of its length; a row as often as it came in micro-batches.

        Raises:
            StoreError: the store did not answer, or refused.
            ShortfallError: the shard is not the file that the index was made of.
        """
        with self._taking:
            clips, is_once = self._coming[row].popleft()
            if not self._coming[row]:
                del self._coming[row]
        return memoryview(clips.result().pop(row) if is_once else clips.result()[row])

    def close(self) -> None:
        """Stop reading: running requests end, others do not start."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)
        with self._taking:
            self._coming.clear()

    def _forget(self, rows: Iterable[int]) -> None:
        with self._taking:
            forgotten = {clips for row in rows for clips, _ in self._coming.pop(row, ())}
            still_coming = {clips for coming in self._coming.values() for clips, _ in coming}
        for clips in forgotten - still_coming:
            clips.cancel()

    def _windows(self, micro_batches: Iterable[MicroBatch]) -> Iterator[deque[MicroBatch]]:
        """Group micro-batches into windows, which end when they are full, or early where row groups end."""
        room, num_bytes = self._window_bytes // _FIRST, 0
        window, groups = deque[MicroBatch](), set[tuple[int, int]]()
        for micro_batch in micro_batches:
            rows = micro_batch.rows
            size = int(self._index.audio_length[rows].sum(dtype=np.int64))
            shards, row_groups = self._index.shard[rows].tolist(), self._index.row_group[rows].tolist()
            of_batch = {*zip(shards, row_groups, strict=True)}
            ends = _EARLIEST * num_bytes > room and groups.isdisjoint(of_batch)
            if window and (num_bytes + size > room or ends):
                yield window
                room, num_bytes = min(_GROWTH * room, self._window_bytes), 0
                window, groups = deque[MicroBatch](), set[tuple[int, int]]()
            window.append(micro_batch)
            num_bytes += size
            groups |= of_batch
        if window:
            yield window

    def _start(self, window: deque[MicroBatch]) -> deque[MicroBatch]:
        """Request the clips of a window, in the order in which they are needed."""
        rows = np.concatenate([np.empty(0, np.int32), *(micro_batch.rows for micro_batch in window)])
        rows, firsts, counts = np.unique(rows, return_index=True, return_counts=True)
        needed = dict(zip(rows.tolist(), firsts.tolist(), strict=True))
        times = dict(zip(rows.tolist(), counts.tolist(), strict=True))
        requests = self._requests(rows)
        for shard, neighbours in sorted(requests, key=lambda request: min(needed[row] for row in request[1])):
            if shard not in self._checks:
                self._checks[shard] = self._pool.submit(self._check, shard)
            clips = self._pool.submit(self._read, shard, neighbours)
            with self._taking:
                for row in neighbours:
                    coming = self._coming.setdefault(row, deque())
                    coming.extend(times[row] * [(clips, times[row] == 1)])
        return window

    def _requests(self, rows: Int32) -> list[tuple[int, list[int]]]:
        """Shard and rows of each request: rows that are neighbours in a shard, with little between them."""
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
        self._retry(shard, lambda: self._index.check_shard(shard))

    def _read(self, shard: int, rows: list[int]) -> BytesByRow:
        """Read the clips of a request; each is bytes of its own, so that one that was taken is freed."""
        self._checks[shard].result()  # submitted before this: never behind it in the queue
        index = self._index
        starts = (index.audio_offset[rows] - PREFIX).tolist()
        stops = (index.audio_offset[rows] + index.audio_length[rows]).tolist()
        begin = starts[0]
        data = self._read_range(shard, begin, stops[-1])
        spans = zip(rows, starts, stops, strict=True)
        return {row: data[start - begin : stop - begin] for row, start, stop in spans}

    def _read_range(self, shard: int, start: int, stop: int) -> bytes:
        """Bytes of a shard, from the cache where it has them."""
        folder, entry = self._index.folder_of(shard), self._index.shards[shard]

        def fetch(start: int, stop: int) -> bytes:
            return self._retry(shard, lambda: folder.read_range(entry.path, start, stop))

        if self._cache is None:
            return fetch(start, stop)
        return self._cache.read(self._content(shard), entry.size, start, stop, fetch)

    def _content(self, shard: int) -> str:
        """A name of what a shard holds: its footer does not tell one sound from another as long."""
        if shard not in self._contents:
            folder, entry = self._index.folder_of(shard), self._index.shards[shard]
            place = folder.place(entry.path)
            info: Any = self._retry(shard, lambda: of_this_process(folder.fs).info(place))
            content = f"{entry.footer_sha256} {stamp_of(info) or place}"
            self._contents[shard] = hashlib.sha256(content.encode()).hexdigest()
        return self._contents[shard]

    def _retry(self, shard: int, read: Callable[[], T]) -> T:
        try:
            return retry(read, self._closing.wait)
        except SpeechRowsError:
            raise
        except Exception as error:
            message = " ".join(str(error).split())
            folder = self._index.folder_of(shard)
            store = f"{folder.address}: {self._index.shards[shard].path}: the store"
            if is_refusal(error):
                raise StoreError(f"{store} refused ({message}). {how_to_log_in(folder.fs)}") from error
            raise StoreError(
                f"{store} did not answer, asked again and again ({message}). Go on from the last saved "
                "state: no row is lost or doubled"
            ) from error
