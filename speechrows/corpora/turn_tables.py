"""Tables of one row a turn: the turns of a conversation, in whatever order and in however many tables."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from speechrows.corpora import parquet
from speechrows.corpora.entries import basename
from speechrows.corpora.folder import Corpus


@dataclass(frozen=True)
class TurnTable:
    """Tables as one, as Arrow holds them: as objects a real corpus' table weighs 600 MB."""

    table: pa.Table
    rows: Mapping[str, Sequence[int]]  # of the table, by conversation

    def turns(self, conversation: str) -> list[dict[str, Any]]:
        """The rows of a conversation, in the tables' order."""
        return parquet.records(self.table.take(self.rows[conversation]))

    def column(self, name: str) -> list[Any]:
        """The cells of a column, row by row."""
        return parquet.values(self.table[name])


@dataclass
class TurnTables:
    """Opens tables of one row a turn; those that were opened last are kept.

    Attributes:
        columns: those that a table has to have, as `like` has them.
        named_by: the columns that `name` makes the name of a row's conversation of; where that is "", the
            row is a conversation of its own, `<table>:<row>`.
    """

    corpus: Corpus
    columns: Sequence[str]
    like: str
    named_by: Sequence[str]
    name: Callable[..., str]
    _last: tuple[tuple[str, ...], TurnTable] | None = None

    def open(self, paths: tuple[str, ...]) -> TurnTable:
        """Open tables as one; a conversation may straddle them.

        Raises:
            UsageError: one is no parquet, or lacks a column.
            OSError: one can not be read.
        """
        if self._last is None or self._last[0] != paths:
            self._last = paths, self._read(paths)
        return self._last[1]

    def _read(self, paths: Sequence[str]) -> TurnTable:
        tables: list[pa.Table] = []
        rows: dict[str, list[int]] = {}
        start = 0
        for path in paths:
            table = parquet.read_table(self.corpus, path, self.columns, self.like)
            cells = zip(*(parquet.values(table[name]) for name in self.named_by), strict=True)
            for row, of_row in enumerate(cells):
                name = self.name(*of_row) or f"{basename(path).removesuffix('.parquet')}:{row}"
                rows.setdefault(name, []).append(start + row)
            tables.append(table)
            start += len(table)
        return TurnTable(pa.concat_tables(tables, promote_options="permissive"), rows)
