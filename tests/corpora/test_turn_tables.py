"""Tables of one row a turn: conversations are whole, however their rows lie."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from speechrows.corpora.folder import Corpus
from speechrows.corpora.turn_tables import TurnTables
from speechrows.errors import UsageError


def tables_of(folder: Path, **rows: list[tuple[str, str]]) -> TurnTables:
    for name, cells in rows.items():
        talks, texts = zip(*cells, strict=True)
        pq.write_table(pa.table({"talk": talks, "text": texts}), folder / f"{name}.parquet")
    return TurnTables(Corpus.open(str(folder)), ("talk", "text"), "the toys", ("talk",), lambda talk: talk)


def test_turns_of_a_conversation_are_found_in_whatever_order_and_tables_they_lie(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, one=[("b", "1"), ("a", "2"), ("b", "3")], two=[("a", "4"), ("b", "5")])
    table = tables.open(("one.parquet", "two.parquet"))
    texts = {talk: [turn["text"] for turn in table.turns(talk)] for talk in table.rows}
    assert texts == {"a": ["2", "4"], "b": ["1", "3", "5"]}
    assert table.column("text") == ["1", "2", "3", "4", "5"]


def test_a_row_that_names_no_conversation_is_one_of_its_own(tmp_path: Path) -> None:
    table = tables_of(tmp_path, one=[("", "1"), ("a", "2"), ("", "3")]).open(("one.parquet",))
    assert {talk: [turn["text"] for turn in table.turns(talk)] for talk in table.rows} == {
        "one:0": ["1"],
        "a": ["2"],
        "one:2": ["3"],
    }


def test_a_table_without_a_column_is_refused_by_name(tmp_path: Path) -> None:
    tables_of(tmp_path, one=[("a", "1")])
    tables = TurnTables(Corpus.open(str(tmp_path)), ("talk", "clip"), "the toys", ("talk",), str)
    with pytest.raises(UsageError, match=r"one\.parquet: has the columns talk, text; expected clip too"):
        tables.open(("one.parquet",))
