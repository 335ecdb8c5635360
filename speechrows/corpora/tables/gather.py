"""Rows of tables as conversations, each when its last row has come; clips wait in memory, then on disk."""

from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from speechrows.corpora.folder import Corpus
from speechrows.corpora.spill import ViewBuffer
from speechrows.corpora.tables.columns import Columns
from speechrows.corpora.tables.files import open_table
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.tables.stream import RowStream
from speechrows.corpora.tables.survey import Part
from speechrows.corpora.tables.survey import Run
from speechrows.types import AudioRef
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import UnreadableFile


class Row(NamedTuple):
    """A row with the table that it is of; `is_repeat`: an earlier row has its id."""

    record: Record
    file: TableFile
    is_repeat: bool = False


class Gathering:
    """Reads runs. Of tables whose rows lie in order, each goes on where the last run ended."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._stream = RowStream(partial(open_table, corpus))

    def conversations(self, run: Run) -> Iterator[list[Row] | UnreadableFile]:
        """The conversations of a run, each as its rows in the tables' order."""
        yield from run.lost
        joined = _Joined(run.parts)
        for part in run.parts:
            for row in self._rows(part, run.columns):
                if isinstance(row, UnreadableFile):
                    yield row
                elif part.conversations is None:
                    yield [row]
                elif (rows := joined.put(part, row)) is not None:
                    yield rows

    def _rows(self, part: Part, columns: Columns) -> Iterator[Row | UnreadableFile]:
        """The rows of a part, each of them: those that can not be read have a fault."""
        at = 0
        for record in self._read(part, columns):
            if isinstance(record, UnreadableFile):
                yield record
                continue
            while part.rows[at] < record.number:
                yield _lost(part, at)
                at += 1
            at += 1
            yield Row(record, part.file, record.number in part.repeats)
        if len(part.rows) < len(ALL):
            yield from (_lost(part, rest) for rest in range(at, len(part.rows)))

    def _read(self, part: Part, columns: Columns) -> Iterator[Record | UnreadableFile]:
        """The records of a part, in order, and what of its table could not be read."""
        names = [*columns.names, columns.audio]
        audio, rows = columns.audio, part.rows
        if not isinstance(rows, range):
            yield from open_table(self._corpus, part.file).read(names, audio, rows, part.offset)
            return
        yield from self._stream.read(part.file, rows, part.offset, names, audio, to_end=part.to_end)


def _lost(part: Part, at: int) -> Row:
    """A row of a part, by its place there, that can not be read."""
    number = int(part.rows[at])
    place = f"{part.file.path}:{number}"
    detail = "found a row that can not be read, expected a turn; download the table again"
    fault = Fault(reason=Reason.UNREADABLE, detail=detail, file=place)
    return Row(Record(number, place, {}, fault=fault), part.file)


class _Joined:
    """The rows of conversations that are not whole yet."""

    def __init__(self, parts: Sequence[Part]) -> None:
        numbers = [part.conversations for part in parts if part.conversations is not None]
        codes, counts = np.unique(np.concatenate(numbers), return_counts=True) if numbers else ([], [])
        self._lacking: dict[int, int] = dict(zip(map(int, codes), map(int, counts), strict=True))
        self._rows: dict[int, list[Row]] = {}
        self._clips = ViewBuffer()  # by place

    def put(self, part: Part, row: Row) -> list[Row] | None:
        """Keep a row; the rows of its conversation, where it was the last of them."""
        number, record = _conversation(part, row.record.number), row.record
        self._lacking[number] -= 1
        if not self._lacking[number]:
            return [*map(self._with_clip, self._rows.pop(number, ())), row]
        if record.clip is not None and record.clip.data is not None:
            self._clips.put(record.place, record.clip.data)
            row = row._replace(record=record._replace(clip=AudioRef(path=record.clip.path)))
        self._rows.setdefault(number, []).append(row)
        return None

    def _with_clip(self, row: Row) -> Row:
        record = row.record
        if record.clip is None:
            return row
        clip = AudioRef(path=record.clip.path, data=self._clips.take(record.place))
        return row._replace(record=record._replace(clip=clip))


def _conversation(part: Part, row: int) -> int:
    assert part.conversations is not None
    at = row - part.rows.start if isinstance(part.rows, range) else np.searchsorted(part.rows, row)
    return int(part.conversations[at])
