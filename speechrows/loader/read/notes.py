"""What a view asks of rows beside tokens and codes: some of their columns, as text that is kept with them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.read.records import RowTokens
from speechrows.loader.read.rowgroup import ReadRowGroups
from speechrows.loader.read.rowgroup import read_columns
from speechrows.loader.read.rowgroup import read_row_groups


def with_notes(columns: tuple[str, ...], read: ReadRowGroups = read_row_groups) -> ReadRowGroups:
    """Reading of row groups, each row with a note: a JSON object of these columns, None for missing ones."""
    return partial(_read, columns, read)


def _read(
    columns: tuple[str, ...], read: ReadRowGroups, index: IndexedRows, shard: int, row_groups: Sequence[int]
) -> RowTokens:
    tokens = read(index, shard, row_groups)
    rows = read_columns(index, shard, row_groups, columns).to_pylist()
    nothing = dict.fromkeys(columns)
    notes = tuple([json.dumps({**nothing, **row}, ensure_ascii=False) for row in rows])
    return replace(tokens, notes=notes)
