"""Tables of text: what csv wrote, what nothing quoted, and texts that look like either."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.corpora.tsv import read_table

NAMES = ["filename", "text", "speaker"]
TEXTS = st.text(st.sampled_from('a"\t \u2028\x85\x0c\x1c,'), max_size=8) | st.text(
    st.sampled_from('a"\n \u2028'), max_size=8
)


def written(records: list[list[str]], **how: object) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter="\t", lineterminator="\n", **how).writerows([NAMES, *records])  # pyright: ignore[reportArgumentType]
    return out.getvalue()


@given(st.lists(TEXTS, max_size=4), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.booleans())
@MANY
def test_what_csv_wrote_comes_back_whatever_a_text_holds(texts: list[str], quoting: int, last: bool) -> None:
    records = [[f"{i}.wav", "A", text] if last else [f"{i}.wav", text, "A"] for i, text in enumerate(texts)]
    table = written(records, quoting=quoting)
    for form in (table, table.replace("\n", "\r\n") if "\n" not in "".join(texts) else table):
        assert read_table(form) == [dict(zip(NAMES, record, strict=True)) for record in records]


@pytest.mark.parametrize(
    "text", ["one\u2028two\x85\x0c\x1cthree", '"Mitosis" is', '"Mitosis', 'a "b" c', 'go"', '"']
)
def test_a_text_that_nothing_quotes_stays_as_it_is_and_costs_no_other(text: str) -> None:
    lines = "\n".join("\t".join(line) for line in (NAMES, ["1.wav", text, "A"], ["2.wav", 'it"', "B"]))
    for end in ("", "\n", "\n\n"):
        for line_break in ("\n", "\r\n", "\r"):
            table = (lines + end).replace("\n", line_break)
            assert [list(record.values()) for record in read_table(table)] == [
                ["1.wav", text, "A"],
                ["2.wav", 'it"', "B"],
            ]


def test_where_a_cell_ends_that_nothing_quotes_is_not_guessed() -> None:
    lines = ["\t".join(NAMES), "1.wav\ta\tb\tA", "2.wav\tTwo", "things\tB", "3.wav\tthree\tC", "4.wav\tfour"]
    first, _, *others = read_table("\n".join(lines))
    assert first == {"filename": "2.wav"}
    assert others == [
        {"filename": "3.wav", "text": "three", "speaker": "C"},
        {"filename": "4.wav", "text": "four"},
    ]


def test_a_megabyte_of_open_quotes_is_read_in_one_go() -> None:
    lines = ["\t".join(NAMES), *(f'{i}.wav\t"open\tA' for i in range(40_000)), "cut"]
    assert len(read_table("\n".join(lines))) == 40_001
