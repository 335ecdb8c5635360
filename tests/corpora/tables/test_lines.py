"""Rows of text: what csv writes comes back, wherever reading begins, and a stray quote costs no other row."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechrows.corpora.folder import Corpus
from speechrows.corpora.parquet import BrokenFileError
from speechrows.corpora.tables.lines import LineTable
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import TableFile
from speechrows.types import UnreadableFile

CELL = st.text(st.characters(exclude_characters="\r\0\ufeff", exclude_categories=("Cs",)), max_size=8)


class OneFile(Corpus):
    """A corpus of one file, which lies in memory."""

    def open_file(self, path: str) -> Any:
        return io.BytesIO(CONTENT[path])


CONTENT: dict[str, bytes] = {}


def table(text: str | bytes, kind: str = "csv") -> LineTable:
    CONTENT["t"] = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
    return LineTable(OneFile(root="", located={"t": "t"}), TableFile(path="t", num_bytes=0, kind=kind))


def records(text: str | bytes, kind: str = "csv", **options: Any) -> list[Record]:
    return [record for record in table(text, kind).read((), None, **options) if isinstance(record, Record)]


def cells(text: str | bytes, kind: str = "csv") -> list[Any]:
    return [None if record.fault else tuple(record.cells.values()) for record in records(text, kind)]


@given(st.lists(st.tuples(CELL, CELL, st.sampled_from(["a.wav", 'b "c".wav'])), max_size=6), st.data())
def test_what_csv_writes_comes_back_and_can_be_read_from_any_row(
    rows: list[Any], data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(["csv", "tsv"]))
    if kind == "tsv":  # where a line that is a row is one, whatever its quotes
        rows = [tuple(cell.replace("\t", " ") for cell in row) for row in rows]
    file = io.StringIO()
    writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",", lineterminator="\n")
    writer.writerows([("first", "second", "file"), *rows])
    text = file.getvalue()
    assert cells(text, kind) == rows
    found = records(text, kind)
    for i, record in enumerate(found):
        rest = range(record.number, 1 << 62)
        assert records(text, kind, rows=rest, offset=record.offset) == found[i:]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("a,b\n1,x\n", "csv", [("1", "x")]),
        ("a;b\r\n1;x, y\r\n\r\n2;\r\n", "csv", [("1", "x, y"), ("2", "")]),
        ("\ufeffa,b\n1,x", "csv", [("1", "x")]),
        ('a,b\n1,"open\n2,x\n3,y\n', "csv", [("1", '"open'), ("2", "x"), ("3", "y")]),
        ('a,b\n1,5" disk\n2,x\n', "csv", [("1", '5" disk'), ("2", "x")]),
        ("a,b\n1\n2,x,y\n3,z\n", "csv", [None, None, ("3", "z")]),
        (
            'a\tb\n1\t"Hi" she said\n2\t"open\n3\t"x"\n',
            "tsv",
            [("1", '"Hi" she said'), ("2", '"open'), ("3", "x")],
        ),
        ('a\tb\n1\t"two\nlines"\n2\tx\n', "tsv", [("1", "two\nlines"), ("2", "x")]),
        ('{"a": 1}\n\n{"a": 2}{\n[]\n{"a": [3]}', "jsonl", [(1,), None, None, ([3],)]),
        (
            "1-2-3 GO ON\n1-2-4\n",
            "trans.txt",
            [("1-2-3", "GO ON", "1", "1-2-3"), ("1-2-4", "", "1", "1-2-4")],
        ),
    ],
)
def test_a_row_is_what_its_writer_meant_and_what_is_none_costs_itself(
    text: str, kind: str, expected: list[Any]
) -> None:
    assert cells(text, kind) == expected


def test_places_are_lines_from_1_and_bytes_that_are_no_utf_8_stay_in_their_cell() -> None:
    found = records(b"a,b\n\n1,\xff\n2,y\n")
    assert [(record.place, record.cells["b"]) for record in found] == [("t:3", "\udcff"), ("t:4", "y")]


def test_a_table_of_another_encoding_and_an_endless_line_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokenFileError, match="found UTF-16, expected UTF-8"):
        table("a,b\n1,x\n".encode("utf-16")).columns()
    monkeypatch.setattr("speechrows.corpora.tables.lines.MAX_TEXT_BYTES", 10)
    assert cells('{"a": 1}\n{"a": "' + "x" * 100 + '"}\n{"a": 2}\n', "jsonl") == [(1,), None, (2,)]


def test_a_file_that_is_gone_is_one_unreadable_file(tmp_path: Path) -> None:
    gone = LineTable(Corpus(root=str(tmp_path)), TableFile(path="t.jsonl", num_bytes=0, kind="jsonl"))
    [lost] = gone.read((), None)
    assert isinstance(lost, UnreadableFile)
    assert (
        lost.detail
        == "found FileNotFoundError: No such file or directory; expected lines of text. Download it again"
    )
