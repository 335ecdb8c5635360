"""The tables of a folder as units: found, their columns chosen, looked at once, and told in words."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechrows.corpora.entries import Entry
from speechrows.corpora.parquet import BrokenFileError
from speechrows.corpora.reader import Listing
from speechrows.corpora.tables.columns import Columns
from speechrows.corpora.tables.columns import choose
from speechrows.corpora.tables.files import FOLDER
from speechrows.corpora.tables.files import find_tables
from speechrows.corpora.tables.files import missing_shards
from speechrows.corpora.tables.files import open_table
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.records import Table
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.tables.survey import Run
from speechrows.corpora.tables.survey import Survey
from speechrows.corpora.tables.survey import lost_unit
from speechrows.corpora.turns import is_audio
from speechrows.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What a person says of tables.

    Attributes:
        patterns: of the paths of those that are read; all are, where there are none.
        columns: names by purpose, as columns.choose takes them.
        traits: TRAIT=COLUMN.
        scattered_bytes: the size of a unit, where rows lie far from one another: each reads all tables.
    """

    patterns: Sequence[str] = ()
    columns: Mapping[str, str | None]
    traits: Sequence[str] = ()
    scattered_bytes: int


def list_tables(
    names: ClipNames, entries: Sequence[Entry], choice: Choice, check: Callable[[Columns], Any]
) -> Listing[Run]:
    """The tables of a corpus as units, of none where there is no table; `check` may refuse their columns.

    Raises:
        UsageError: no one can tell which tables, or which of their columns, are meant.
    """
    files = find_tables(entries, choice.patterns)
    if not files:
        clips = sum(is_audio(entry.path) for entry in entries)
        note = f", and {clips} clips of which none has a .txt beside it" if clips else ""
        return Listing(contents=f"no table{note}", units=[])
    tables = {file.path: open_table(names.corpus, file) for file in files}
    columns_of, lost = _columns(tables)
    if not columns_of:
        broken, detail = next(iter(lost.items()), (files[0].path, "is empty; expected rows"))
        raise UsageError(f"{broken}: {detail}")
    columns = choose(tables, columns_of, choice.columns, choice.traits)
    check(columns)
    survey = Survey(columns, names, {entry.path: entry.num_bytes for entry in entries})
    for file in files:
        if file.path in columns_of:
            survey.add(file, tables[file.path], holds_clips=columns_of[file.path][columns.audio])
    units = [lost_unit(columns, file, lost[file.path]) for file in files if file.path in lost]
    units += survey.units(choice.scattered_bytes)
    gone = missing_shards(files)
    note = f" (not there: {', '.join(gone[:3])}{' and others' if len(gone) > 3 else ''})" if gone else ""
    contents = f"{_count(files, survey, columns)}{note}; {columns.describe()}"
    return Listing(contents=contents, units=units)


def _columns(tables: Mapping[str, Table]) -> tuple[dict[str, Mapping[str, bool]], dict[str, str]]:
    """The columns of each table that has any, and what is wrong with those that can not be read."""
    columns_of: dict[str, Mapping[str, bool]] = {}
    lost: dict[str, str] = {}
    for path, table in tables.items():
        try:
            if columns := table.columns():
                columns_of[path] = columns
        except BrokenFileError as error:
            lost[path] = str(error)
    return columns_of, lost


def _count(files: Sequence[TableFile], survey: Survey, columns: Columns) -> str:
    """How much there is of what, in words."""
    kind = "folders of clips" if files[0].kind == FOLDER else f".{files[0].kind} files"
    where = files[0].path if len(files) == 1 else f"{len(files)} {kind}"
    if not survey.num_rows:
        return where
    rows = f"{survey.num_rows} rows in {where or 'the folder'}"
    if columns.conversation is None:
        return rows
    note = ", scattered (a table sorted by conversation is read faster)" if survey.is_scattered() else ""
    return f"{rows}, {survey.num_conversations} conversations{note}"
