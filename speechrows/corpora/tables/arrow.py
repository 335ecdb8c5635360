"""Tables of Arrow's: parquet, and the files that datasets keeps and `save_to_disk` writes."""

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speechrows.corpora import parquet
from speechrows.corpora.cells import Cell
from speechrows.corpora.cells import clip_cells
from speechrows.corpora.cells import holds_clips
from speechrows.corpora.entries import basename
from speechrows.corpora.folder import Corpus
from speechrows.corpora.parquet import BrokenFileError
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import Rows
from speechrows.corpora.tables.records import TableFile
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import UnreadableFile

_FILE_MAGIC = b"ARROW1"  # of Arrow's file format; datasets writes streams


class ArrowTable:
    """A table of parquet or Arrow. Rows are numbered from 0."""

    def __init__(self, corpus: Corpus, file: TableFile) -> None:
        self._corpus, self._file = corpus, file

    def columns(self) -> Mapping[str, bool]:
        """Its columns, and whether each can hold clips; one that is there twice is none."""
        if self._file.kind == "parquet":
            with parquet.open_table(self._corpus, self._file.path) as table:
                schema, empty = table.schema_arrow, _columns_of_nulls(table.metadata)
        else:
            with self._open_arrow() as (schema, _):
                empty = frozenset[str]()
        return {
            field.name: holds_clips(field.type)
            and not pa.types.is_null(field.type)
            and f"{field.name}.bytes" not in empty  # datasets' struct with paths alone
            for field in schema
            if schema.names.count(field.name) == 1
        }

    def read(
        self,
        names: Sequence[str],
        audio: str | None,
        rows: Rows = ALL,
        offset: int = 0,  # noqa: ARG002  # of text alone
    ) -> Generator[Record | UnreadableFile]:
        """Read some rows."""
        numbers = np.asarray([rows.start, rows.stop]) if isinstance(rows, range) else rows

        def choose(schema: pa.Schema) -> list[str]:
            wanted = [*names, *([audio] if audio is not None else [])]
            return list(dict.fromkeys(name for name in wanted if schema.names.count(name) == 1))

        def is_wanted(start: int, stop: int) -> bool:
            if isinstance(rows, range):
                return start < rows.stop and rows.start < stop
            return bool(np.searchsorted(numbers, start) < np.searchsorted(numbers, stop))

        if self._file.kind == "parquet":
            batches = parquet.read_batches(self._corpus, self._file.path, choose, is_wanted)
        else:
            batches = self._read_arrow(choose, is_wanted)
        for batch in batches:
            if isinstance(batch, UnreadableFile):
                yield batch
            else:
                yield from self._records(*_kept(*batch, rows), audio)

    def _read_arrow(
        self, choose: Callable[[pa.Schema], Sequence[str]], is_wanted: Callable[[int, int], bool]
    ) -> Iterator[tuple[int, pa.RecordBatch] | UnreadableFile]:
        """The batches of an Arrow file, as parquet.read_batches gives those of parquet."""
        at = 0
        try:
            with self._open_arrow() as (schema, batches):
                names = list(choose(schema))
                for batch in batches:
                    if is_wanted(at, at + len(batch)):
                        yield at, batch.select(names)
                    at += len(batch)
        except BrokenFileError as error:
            detail = f"after {at} rows: {error}" if at else str(error)
            yield UnreadableFile(file=self._file.path, detail=detail)

    @contextmanager
    def _open_arrow(self) -> Generator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        corpus, path = self._corpus, self._file.path
        try:
            place = corpus.local_path(corpus.resolve("", path))
            file: Any = corpus.open_file(path) if place is None else pa.memory_map(place)
            with file:
                magic = file.read(len(_FILE_MAGIC))
                file.seek(0)
                options = pa.ipc.IpcReadOptions(use_threads=False)
                if magic == _FILE_MAGIC:
                    reader = pa.ipc.open_file(file, options=options)
                    batches = map(reader.get_batch, range(reader.num_record_batches))
                    yield reader.schema, batches
                else:
                    stream = pa.ipc.open_stream(file, options=options)
                    yield stream.schema, iter(stream)
        except (pa.ArrowException, OSError, BadClipError) as error:
            raise parquet.broken(corpus, path, error, "Arrow, as datasets writes it") from error

    def _records(self, numbers: Sequence[int], batch: pa.RecordBatch, audio: str | None) -> Iterator[Record]:
        path, classes = self._file.path, parquet.class_names(batch.schema)
        columns: dict[str, list[Any]] = {}
        clips: list[Cell] | None = None
        for name in batch.schema.names:
            column = batch.column(name)
            if name == audio and holds_clips(column.type):
                clips = clip_cells(column)
                columns[name] = [clip.path for clip in clips]
                continue
            values = parquet.values(column, "surrogateescape")
            known = classes.get(name)
            columns[name] = [parquet.class_name(value, known) for value in values] if known else values
        names, rows = list(columns), zip(*columns.values(), strict=True) if columns else [()] * len(batch)
        for i, (number, row) in enumerate(zip(numbers, rows, strict=True)):
            ref = _ref(path, number, clips[i]) if clips else None
            yield Record(number, f"{path}:{number}", dict(zip(names, row, strict=True)), ref)


def _columns_of_nulls(metadata: pq.FileMetaData) -> frozenset[str]:
    """The columns of a parquet file that hold nothing, as far as its footer tells."""
    empty: set[str] | None = None
    for group in range(metadata.num_row_groups):
        columns = map(metadata.row_group(group).column, range(metadata.num_columns))
        nulls = {
            column.path_in_schema
            for column in columns
            if column.statistics is not None and column.statistics.null_count == column.num_values
        }
        empty = nulls if empty is None else empty & nulls
    return frozenset(empty or ())


def _kept(first: int, batch: pa.RecordBatch, rows: Rows) -> tuple[Sequence[int], pa.RecordBatch]:
    """The rows of a batch that are wanted, with their numbers."""
    if isinstance(rows, range):
        start, stop = max(first, rows.start), min(first + len(batch), rows.stop)
        return range(start, max(start, stop)), batch.slice(start - first, max(0, stop - start))
    wanted = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(batch))]
    if len(wanted) == len(batch):
        return wanted.tolist(), batch
    return wanted.tolist(), batch.take(wanted - first)


def _ref(path: str, number: int, clip: Cell) -> AudioRef | None:
    """A clip under the name that its publisher gave it, below its file and row."""
    if clip.data is None:
        return None
    name = basename(str(clip.path or "")) or str(number)
    return AudioRef(path=f"{path}/{number}/{name}", data=clip.data)
