"""Build shards: in this process, or in others that share nothing but the folder."""

import os
import secrets
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from speechrows.builds import state
from speechrows.builds.commit import Commit
from speechrows.builds.pipeline import Pipeline
from speechrows.builds.place import Place
from speechrows.builds.shard_writer import ShardFile
from speechrows.builds.shard_writer import ShardWriter
from speechrows.builds.shard_writer import finished_index
from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.reader import Shard
from speechrows.folder.layout import shard_path
from speechrows.folder.manifest import BuiltShard
from speechrows.rows.ledger import Ledger
from speechrows.storage.parquet_file import footer_digest
from speechrows.workers.work import Engine
from speechrows.workers.work import Progress
from speechrows.workers.work import Work

MakePipeline = Callable[[], Pipeline]


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


def build_shards(
    shards: Sequence[Shard],
    pipeline: Pipeline,
    make_pipeline: MakePipeline,
    place: Place,
    engine: Engine,
    progress: Progress,
) -> None:
    """Build shards in this process with `pipeline`, or in others that make their own.

    What is read as one stream is read by one process: this one.

    Raises:
        SpeechRowsError: a process died.
    """
    if engine.is_here(len(shards)) or shards[0].units[0].in_stream:
        with ShardBuilder(pipeline, place, progress) as builder:
            for shard in shards:
                builder.build(shard)
        return
    root = pipeline.corpus.root
    work = Work[Shard, None](
        open=partial(_open_builder, make_pipeline, place),
        died=f"{place}: a worker process died (killed, out of memory, or started by a script without "
        '`if __name__ == "__main__":`). Run the same command again: finished shards are kept',
        name=lambda shard: f"{place}: shard {shard.number} ({shard.units[0].file})",
        paths=(*place.seen_by_workers, *([root] if os.path.isdir(root) else [])),
    )
    for _ in engine.run(work, shards, ordered=False, progress=progress):
        pass


def _open_builder(make_pipeline: MakePipeline, place: Place, progress: Progress) -> Callable[[Shard], None]:
    pipeline = make_pipeline()

    def build(shard: Shard) -> None:
        with place.of_worker() as own, ShardBuilder(pipeline, own, progress) as builder:
            builder.build(shard)

    return build
