"""Run a build's shards: in this process, or in several that share nothing but the folder."""

import functools
import multiprocessing
import os
import secrets
import threading
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import Future
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from dataclasses import field
from multiprocessing.connection import wait as wait_for_handle
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from speechrows.builds import state
from speechrows.builds.commit import Commit
from speechrows.builds.locks import share_lock
from speechrows.builds.pipeline import Pipeline
from speechrows.builds.place import Place
from speechrows.builds.shard_writer import ShardFile
from speechrows.builds.shard_writer import ShardWriter
from speechrows.builds.shard_writer import finished_index
from speechrows.console import ending_workers
from speechrows.console import starting_workers
from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.reader import Shard
from speechrows.errors import SpeechRowsError
from speechrows.folder.layout import shard_path
from speechrows.folder.manifest import BuiltShard
from speechrows.rows.ledger import Ledger
from speechrows.storage.parquet_file import footer_digest

MakePipeline = Callable[[], Pipeline]
Progress = Callable[[int], object]


class ShardBuilder:
    """Builds shards one after another; while a table is made, a thread writes the one before it.

    The end of its `with` waits until all of them are published.
    """

    def __init__(self, pipeline: Pipeline, place: Place, progress: Progress) -> None:
        """`progress` is called with the number of a shard's bytes that are done since the last call."""
        self._pipeline, self._place, self._progress = pipeline, place, progress
        self._thread = ThreadPoolExecutor(1)
        self._filled, self._other = _Lent(pipeline.buffer()), _Lent(pipeline.buffer())

    def __enter__(self) -> "ShardBuilder":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        with self._thread:
            if error is None:
                self._other.wait()
                self._filled.wait()

    def _next_buffer(self) -> ClipBuffer:
        """The buffer that is not being filled, as soon as the tables that lie in it have been written."""
        self._filled, self._other = self._other, self._filled
        self._filled.wait()
        self._filled.buffer.clear()
        return self._filled.buffer

    def _later(self, write: Callable[..., None], *args: object) -> Future[None]:
        """Have the thread write something of the buffer that is filled, after what it was given before."""
        self._filled.writings.append(self._thread.submit(write, *args))
        return self._filled.writings[-1]

    def build(self, shard: Shard) -> None:
        """Make a shard's tables. They may be written, and published, while the next shard's are made."""
        ledger, remaining = Ledger(), shard.num_bytes
        tag = f"{os.getpid()}-{secrets.token_hex(4)}"
        writer, writings = ShardWriter(state.temporary_folder(self._place.here), tag), list[Future[None]]()
        for destination, table in self._pipeline.tables(shard, ledger, next_buffer=self._next_buffer):
            writings.append(self._later(writer.write, destination, table))
            done = min(remaining, table.nbytes)  # rows weigh more than their clips, skipped ones nothing
            remaining -= done
            self._progress(done)
        self._later(self._publish, shard, ledger, writer, writings)
        self._progress(remaining)

    def _publish(
        self, shard: Shard, ledger: Ledger, writer: ShardWriter, writings: Sequence[Future[None]]
    ) -> None:
        """Publish a shard whose tables were written; it counts as built once its commit file is there."""
        for writing in writings:
            writing.result()
        task, out = self._pipeline.spec.task.name, self._place.here
        files = [_publish_file(file, out, task, shard.number, n) for n, file in enumerate(writer.close())]
        commit = Commit(files=tuple(files), ledger=ledger.summary(), lines=tuple(ledger.lines(task)))
        state.write_text(state.commit_file(out, task, shard.number), commit.to_json(), out)
        self._place.deliver(task, shard.number, commit)


@dataclass(frozen=True)
class _Lent:
    """A buffer of clips, and what is to be written of it before it is filled again."""

    buffer: ClipBuffer
    writings: list[Future[None]] = field(default_factory=list[Future[None]])

    def wait(self) -> None:
        """Wait until it is written; raises what was raised."""
        for writing in self.writings:
            writing.result()
        self.writings.clear()


def _publish_file(file: ShardFile, out: Path, task: str, shard: int, number: int) -> BuiltShard:
    """Rename a shard's file, and its part of the index, into place; return its entry for the commit."""
    path = shard_path(task, file.destination.split, file.destination.band, shard)
    index = state.index_part(out, task, shard, number)
    part = file.temporary.with_suffix(".index")
    pq.write_table(finished_index(file, path), part)
    entry = BuiltShard(
        path=path,
        split=file.destination.split,
        band=file.destination.band,
        rows=file.num_rows,
        num_bytes=file.num_bytes,
        size=file.temporary.stat().st_size,
        footer_sha256=_digest(file.temporary),
        index=index.name,
    )
    state.publish(part, index)
    state.publish(file.temporary, out / path)
    return entry


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return footer_digest(file)


def run(
    shards: Sequence[Shard],
    pipeline: Pipeline,
    make_pipeline: MakePipeline,
    place: Place,
    num_proc: int,
    progress: Progress,
) -> None:
    """Build shards in this process with `pipeline`, or in `num_proc` others that make their own.

    What is read as one stream is read by one process. A process that dies ends the build.
    """
    if num_proc <= 1 or len(shards) <= 1 or shards[0].units[0].in_stream:
        with ShardBuilder(pipeline, place, progress) as builder:
            for shard in shards:
                builder.build(shard)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks, held
    done = spawn.Value("q", 0)
    pool = ProcessPoolExecutor(min(num_proc, len(shards)), spawn, _start_worker, (make_pipeline, place, done))
    futures: set[Future[None]] = set()
    with pool:
        try:
            with ending_workers():
                with starting_workers():
                    futures = {pool.submit(_work, shard) for shard in shards}
                _wait_for(futures, done, progress)
        except BrokenProcessPool as error:
            raise SpeechRowsError(
                f"{place}: a worker process died (killed, out of memory, or started by a script without "
                '`if __name__ == "__main__":`). Run the same command again: finished shards are kept'
            ) from error
        except Exception:
            for future in futures:
                future.cancel()
            raise


def _wait_for(waiting: set[Future[None]], done: Any, progress: Progress) -> None:
    seen = 0
    while waiting:
        finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in finished:
            future.result()
        now = int(done.get_obj().value)  # without its lock: a killed worker may hold that
        progress(now - seen)
        seen = now


_worker: tuple[MakePipeline, Place, Any] | None = None  # in a worker process, set once at its start


def _start_worker(make_pipeline: MakePipeline, place: Place, done: Any) -> None:
    global _worker
    _exit_with_parent()
    share_lock(place.here)
    if not _parent().is_alive():  # else the next build may have started before this worker held the lock
        os._exit(1)
    _worker = functools.cache(make_pipeline), place, done


def _exit_with_parent() -> None:
    """End this process as soon as the parent does: no orphan writes into the folder."""
    sentinel = _parent().sentinel

    def watch() -> None:
        wait_for_handle([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _parent() -> Any:
    parent = multiprocessing.parent_process()
    assert parent is not None
    return parent


def _work(shard: Shard) -> None:
    assert _worker is not None
    make_pipeline, place, done = _worker

    def progress(num_bytes: int) -> None:
        with done.get_lock():
            done.value += num_bytes

    with ShardBuilder(make_pipeline(), place, progress) as builder:
        builder.build(shard)
