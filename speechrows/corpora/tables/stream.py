"""Runs of a table's rows: where one goes on where the last ended, so does the reading."""

import weakref
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
from itertools import chain

from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import Table
from speechrows.corpora.tables.records import TableFile
from speechrows.types import UnreadableFile


class RowStream:
    """Reads runs of rows of tables, which `open_table` opens."""

    def __init__(self, open_table: Callable[[TableFile], Table]) -> None:
        self._open_table = open_table
        self._streams: list[Generator[Record | UnreadableFile]] = []  # the one that is read on, if any
        self._ahead: list[Record] = []  # what came of it that is of a later run
        self._at: tuple[str, int] | None = None  # its table, and its next row
        # Before Python itself ends: a generator that is closed then finds no module that it needs.
        weakref.finalize(self, _close, self._streams)

    def read(
        self,
        file: TableFile,
        rows: range,
        offset: int,
        names: Sequence[str] = (),
        audio: str | None = None,
        *,
        to_end: bool,
    ) -> Iterator[Record | UnreadableFile]:
        """The rows of a run, in order, and what of the table could not be read.

        `offset` is where its first row begins, in a table of text; `to_end`, no run of the table comes after.
        """
        if self._at != (file.path, rows.start):
            _close(self._streams)
            self._ahead.clear()
            table = self._open_table(file)
            self._streams.append(table.read(names, audio, range(rows.start, ALL.stop), offset))
        self._at = None  # whoever does not read to the end leaves the stream no one knows where
        ahead, self._ahead = self._ahead, []
        for record in chain(ahead, *self._streams):
            if isinstance(record, Record) and record.number >= rows.stop:
                self._ahead = [record]
                break
            yield record
            if isinstance(record, Record) and record.number == rows.stop - 1 and not to_end:
                break
        self._at = file.path, rows.stop


def _close(streams: list[Generator[Record | UnreadableFile]]) -> None:
    for stream in streams:
        stream.close()
    streams.clear()
