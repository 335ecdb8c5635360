"""A built folder's rows, cut into the parts of an export, and read part by part."""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from speechrows.conversations.records import Record
from speechrows.conversations.records import Sound
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.folder.index import Index
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.shards import check_shard
from speechrows.rows.schema import AUDIO_COLUMNS
from speechrows.rows.schema import FEATURES
from speechrows.rows.tasks import TASKS
from speechrows.text.template import is_chat

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRows:
    """Rows of a shard that follow one another, numbered from its first."""

    shard: ShardEntry
    rows: range


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Whole conversations of a split that follow one another; `first_row` is numbered in the split."""

    split: str
    number: int
    first_row: int
    pieces: tuple[ShardRows, ...]

    @property
    def name(self) -> str:
        """A name that no other part of the export has."""
        return f"{self.split}-{self.number:06d}"

    def name_of(self, row: int) -> str:
        """The name of a row of the part: no other of the export has it, and it has no dot."""
        return f"{self.split.replace('.', '-')}-{row:09d}"

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return sum(len(piece.rows) for piece in self.pieces)


def chosen_config(folder: RowsFolder, name: str | None) -> str:
    """The config that is named, or the one that shows all rows of a folder of one task.

    Raises:
        UsageError: none is named, and there are several; or it has rows that are no conversations.
    """
    configs, tasks = folder.configs(), {task for task, _ in folder.splits()}
    if name is None:
        known = [config for config in (*tasks,) if config in configs] if len(tasks) == 1 else [*configs]
        if len(known) != 1:
            raise UsageError(
                f"{folder.address}: has rows of {', '.join(configs)}; expected one config. Give --config"
            )
        name = known[0]
    if name not in configs:
        raise UsageError(
            f"{folder.address}: no config {name!r}; it has {', '.join(configs)}{did_you_mean(name, configs)}"
        )
    units = [path for paths in configs[name].values() for path in paths if not _is_chat(path)]
    if units:
        raise UsageError(
            f"{folder.address}: {name} has rows of {units[0].split('/')[1]}, which are units of speech and "
            "no conversations; expected rows of another task. Give another --config"
        )
    return name


def _is_chat(path: str) -> bool:
    task = TASKS.get(path.split("/")[1])
    return task is None or is_chat(task)


def plan_parts(index: Index, *, max_bytes: int, max_rows: int) -> list[Part]:
    """Cut a split at conversations, so that a part is of at most so many bytes of clips, and rows.

    A conversation that is larger is a part of its own. It follows from the index alone.
    """
    begins = np.flatnonzero(np.diff(index.conversation, prepend=-1))
    starts = np.append(begins, len(index))
    num_bytes = np.concatenate([[0], np.cumsum(index.audio_length, dtype=np.int64)])[starts]
    first_of_shard = np.searchsorted(index.shard, np.arange(len(index.shards)))
    parts, at = list[Part](), 0
    while at < len(begins):
        by_bytes = np.searchsorted(num_bytes, num_bytes[at] + max_bytes, "right") - 1
        by_rows = np.searchsorted(starts, starts[at] + max_rows, "right") - 1
        stop = max(at + 1, int(min(by_bytes, by_rows)))
        rows = range(int(starts[at]), int(starts[stop]))
        pieces = _pieces(index, rows, first_of_shard.tolist())
        parts.append(Part(split=index.split, number=len(parts), first_row=rows.start, pieces=pieces))
        at = stop
    return parts


def _pieces(index: Index, rows: range, first_of_shard: Sequence[int]) -> tuple[ShardRows, ...]:
    pieces, at = list[ShardRows](), rows.start
    while at < rows.stop:
        number = int(index.shard[at])
        first, shard = first_of_shard[number], index.shards[number]
        stop = min(rows.stop, first + shard.rows)
        pieces.append(ShardRows(shard=shard, rows=range(at - first, stop - first)))
        at = stop
    return tuple(pieces)


def read_part(folder: RowsFolder, part: Part, columns: Sequence[str] = tuple(FEATURES)) -> Iterator[Record]:
    """The rows of a part in file order, a few in memory; of columns that the folder lacks, None.

    Each has its number in the split as `row`.

    Raises:
        ShortfallError: a shard is damaged, or not the one that the index was made of.
    """
    row = part.first_row
    for piece in part.pieces:
        check_shard(folder, piece.shard)
        with folder.naming(piece.shard.path):
            for batch in _batches(folder, piece, columns):
                for record in _records(batch):
                    yield {**dict.fromkeys(columns), **record, "row": row}
                    row += 1


def _batches(folder: RowsFolder, piece: ShardRows, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a piece; what rotted in them is an OSError."""
    with folder.open_parquet(piece.shard.path, verify_checksums=True) as parquet:
        kept, first = [name for name in columns if name in parquet.schema_arrow.names], 0
        for group in range(parquet.metadata.num_row_groups):
            stop = first + parquet.metadata.row_group(group).num_rows
            if first < piece.rows.stop and stop > piece.rows.start:
                at = first
                for batch in parquet.iter_batches(
                    _ROWS_AT_ONCE, row_groups=[group], columns=kept, use_threads=False
                ):
                    here = batch.slice(
                        max(0, piece.rows.start - at), max(0, piece.rows.stop - max(at, piece.rows.start))
                    )
                    at += len(batch)
                    if len(here):
                        yield here
            first = stop


def _records(batch: pa.RecordBatch) -> Iterator[Record]:
    sounds = {name: _sounds(batch[name]) for name in AUDIO_COLUMNS if name in batch.schema.names}
    others: Any = batch.select([name for name in batch.schema.names if name not in AUDIO_COLUMNS])
    for number, record in enumerate(others.to_pylist()):
        yield record | {name: clips[number] for name, clips in sounds.items()}


def _sounds(column: Any) -> list[Sound | None]:
    """The clips of a column of audio, not copied; of a row without one, None: its fields are null, too."""
    data, names = column.field("bytes"), column.field("path").to_pylist()
    return [
        Sound(name=name, data=memoryview(clip.as_buffer())) if clip.is_valid else None
        for clip, name in zip(data, names, strict=True)
    ]
