"""JSON arrays read record by record: every record, in any spelling, and what remains of broken ones."""

import io
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.corpora.json_stream import NOT_TEXT
from speechrows.corpora.json_stream import Broken
from speechrows.corpora.json_stream import read_records

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['{"id": "x"}', '}, {"id": ', "\\", '\\"', "\\ud83d", "😀", "NaN", "[[[{{", "\ufffd"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(
    st.builds(lambda name, value: {"id": name, "conversation": value}, TEXT, VALUES), min_size=1, max_size=6
)
RECORD_START = re.compile(rb'\{\s*"id"\s*:')
SPELLED = st.fixed_dictionaries(
    {"indent": st.sampled_from([None, 0, 2]), "ensure_ascii": st.booleans(), "sort_keys": st.booleans()}
)


class Drip(io.BytesIO):
    """A file that gives a few bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self.most = most

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.most if size is None or size < 0 else min(size, self.most))


def read(data: bytes, most: int = 1 << 20) -> list[Any]:
    return list(read_records(Drip(data, most), RECORD_START))


@MANY
@given(RECORDS, SPELLED, st.sampled_from([7, 64, 1 << 20]))
def test_every_record_comes_back_however_the_array_is_written(
    records: list[Any], spelled: dict[str, Any], most: int
) -> None:
    whole = json.dumps(records, **spelled)
    assert read(whole.encode(), most) == json.loads(whole, parse_float=Decimal)


@MANY
@given(RECORDS, SPELLED, st.data())
def test_an_array_cut_anywhere_keeps_what_came_before_and_tells_one_break(
    records: list[Any], spelled: dict[str, Any], data: st.DataObject
) -> None:
    whole = json.dumps(records, **spelled).encode()
    *kept, last = read(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert isinstance(last, Broken)
    assert "expected a JSON array of records" in last.detail
    assert kept == json.loads(json.dumps(records), parse_float=Decimal)[: len(kept)]


@MANY
@given(
    st.lists(VALUES, min_size=1, max_size=6),
    st.sampled_from([None, 2]),
    st.integers(0, 5),
    st.sampled_from([50, 1 << 20]),
)
def test_a_record_that_breaks_costs_itself_alone(
    values: list[Any], indent: int | None, at: int, most: int
) -> None:
    whole = [{"id": "first", "x": 1}, *({"id": "", "x": item} for item in values), {"id": "last"}]
    at = 1 + at % len(values)
    spelled = [json.dumps(item, indent=indent) for item in whole]
    records = json.loads(json.dumps(whole), parse_float=Decimal)
    for bad in (
        '{"id": "bad", "x": NaN}',
        '{"id": "bad", "x": [1, 2}',
        '{"id": "bad" "x"}',
        '{"id": "open", "x": [',
    ):
        items = read(f"[{', '.join([*spelled[:at], bad, *spelled[at:]])}]".encode(), most)
        assert [item for item in items if not isinstance(item, Broken)] == records
        (broken,) = [item for item in items if isinstance(item, Broken)]
        assert f"in record {at}, " in broken.detail


@MANY
@given(RECORDS, st.data())
def test_no_byte_that_went_bad_stops_the_reading(records: list[Any], data: st.DataObject) -> None:
    whole = bytearray(json.dumps([*records, {"id": "last"}], ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert len(read(bytes(whole))) <= 2 * len(records) + 3


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        (b'"a\xffb"', f"a{NOT_TEXT}b"),
        (b'"\xf0\x9f\x98"', NOT_TEXT),
        (b'"\\ud83d!"', f"{NOT_TEXT}!"),
        (b'"\\uDE00"', NOT_TEXT),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\\\ud83d"', "\\ud83d"),
        (b'"\\\\\\ud83d\\\\"', f"\\{NOT_TEXT}\\"),
    ],
)
@pytest.mark.parametrize("most", [1, 1 << 20])
def test_bytes_that_are_no_text_are_marked_and_nothing_else_is(text: bytes, read_as: str, most: int) -> None:
    whole = b'[{"id": "1"}, {"id": "2", "text": %s}, {"id": "3", "text": "\xc3\xa9"}]' % text
    assert read(whole, most) == [{"id": "1"}, {"id": "2", "text": read_as}, {"id": "3", "text": "é"}]
    other = whole.replace(b'"id"', b'"name"')  # where records are not seen to begin
    assert [record.get("text") for record in read(other, most)] == [None, read_as, "é"]


def test_a_nesting_bomb_costs_little_and_the_record_after_it_is_read() -> None:
    bomb = b'{"id": "bomb", "x": ' + b"[" * 200_000 + b"}"
    first, broken, last = read(b'[{"id": "1"}, ' + bomb + b', {"id": "2"}]')
    assert (first, last) == ({"id": "1"}, {"id": "2"})
    assert "brackets" in broken.detail


@pytest.mark.parametrize(
    "number", ["9" * 5000, "-" + "9" * 5000, "1e" + "9" * 5000, "1e" + "9" * 22, "0." + "0" * 5000]
)
@pytest.mark.parametrize("most", [1000, 1 << 20])
def test_a_number_that_no_one_can_hold_costs_its_record_and_a_text_of_digits_none(
    number: str, most: int
) -> None:
    digits = "9" * 5000
    records = '[{"id": "%s"}, {"id": "2", "x": %s}, {"id": "3", "x": "\\"%s"}]' % (digits, number, digits)  # noqa: UP031
    first, broken, last = read(records.encode(), most)
    assert (first, last) == ({"id": digits}, {"id": "3", "x": f'"{digits}'})
    assert isinstance(broken, Broken)
    other = records.replace("id", "name").replace(digits, "1", 1)  # where records are not seen to begin
    assert isinstance(read(other.encode(), most)[-1], Broken)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read(b'\xef\xbb\xbf[{"id": "1"}]') == [{"id": "1"}]


def test_objects_inside_records_may_begin_like_records() -> None:
    records = [{"id": str(i), "turns": [{"id": k, "x": "y"} for k in range(3)]} for i in range(4)]
    assert read(json.dumps(records).encode()) == records
