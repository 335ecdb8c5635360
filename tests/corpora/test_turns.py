"""The checks that every reader makes of a turn: text, number, role, clip's name, and what a fault says."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.corpora import turns
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.types import Fault
from speechrows.types import Reason

NUMBERS = st.lists(st.none() | st.integers(0, 12), max_size=12)
OUT_OF_RANGE = st.integers(max_value=-1) | st.integers(min_value=turns.MAX_NUMBER)


# --- texts ----------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])))
@MANY
def test_any_string_that_utf_8_can_write_is_kept_as_it_is(text: str) -> None:
    assert turns.is_unicode(text)
    assert turns.checked_text(text) == text


@given(st.text(), st.characters(categories=["Cs"]), st.text())
@MANY
def test_a_text_with_a_lone_surrogate_is_refused(before: str, surrogate: str, after: str) -> None:
    text = before + surrogate + after
    assert not turns.is_unicode(text)
    with pytest.raises(BadClipError, match="expected a string of UTF-8") as refused:
        turns.checked_text(text)
    assert refused.value.reason is Reason.BAD_TEXT
    refused.value.detail.encode()  # the message itself can be written down


@pytest.mark.parametrize("value", [None, 7, 0.5, True, b"bytes", ["a"], {"a": 1}])
def test_a_text_that_is_no_string_is_refused_under_the_name_that_the_corpus_gives_it(value: Any) -> None:
    assert not turns.is_text(value)
    with pytest.raises(BadClipError) as refused:
        turns.checked_text(value, "sentence")
    assert refused.value.reason is Reason.BAD_TEXT
    assert refused.value.detail == f"found sentence {value!a}, expected a string of UTF-8"


def test_what_a_refusal_quotes_is_cut_to_80_characters() -> None:
    with pytest.raises(BadClipError) as refused:
        turns.checked_text(["x" * 1000])
    assert len(refused.value.detail) < 150


# --- numbers --------------------------------------------------------------------------------


@given(st.integers(0, turns.MAX_NUMBER - 2), st.integers(0, 1))
@MANY
def test_turns_are_counted_from_0_whatever_the_corpus_begins_with(number: int, first: int) -> None:
    assert turns.turn_number(number + first, first=first) == number


@given(OUT_OF_RANGE | st.floats() | st.booleans() | st.text() | st.none())
@MANY
def test_what_int32_can_not_count_is_no_number(value: Any) -> None:
    assert turns.turn_number(value) is None
    assert turns.turn_number(value, first=1) is None


def test_a_corpus_that_counts_from_1_has_no_turn_0() -> None:
    assert turns.turn_number(0, first=1) is None
    assert turns.turn_number(1, first=1) == 0


@given(NUMBERS)
@MANY
def test_free_numbers_collide_with_no_other_and_the_given_ones_stay(numbers: list[int | None]) -> None:
    filled = turns.numbered(numbers)
    pairs = list(zip(numbers, filled, strict=True))
    free = [after for before, after in pairs if before is None]
    assert [after for before, after in pairs if before is not None] == [n for n in numbers if n is not None]
    assert len(set(free)) == len(free)
    assert not set(free) & set(numbers)
    assert free == sorted(free)


# --- roles and names ------------------------------------------------------------------------


@pytest.mark.parametrize("swap_roles", [False, True])
def test_whoever_speaks_first_is_the_user_or_with_swapped_roles_the_assistant(swap_roles: bool) -> None:
    first, other = ("assistant", "user") if swap_roles else ("user", "assistant")
    assert turns.role_of("A", "A", swap_roles=swap_roles) == first
    assert turns.role_of("B", "A", swap_roles=swap_roles) == other
    assert turns.role_of("B", None, swap_roles=swap_roles) == other


@pytest.mark.parametrize(
    "suffix", ["wav", "flac", "opus", "ogg", "mp3", "aif", "aiff", "au", "caf", "rf64", "w64", "WAV", "Flac"]
)
def test_a_clip_is_known_by_its_suffix_whatever_its_case(suffix: str) -> None:
    assert turns.is_audio(f"data/0/a clip.{suffix}")
    assert turns.is_audio(f"two\nlines.{suffix}")
    assert not turns.is_audio(f"data/0/clip.{suffix}.txt")
    assert not turns.is_audio(f"data/{suffix}")
    assert not turns.is_audio(f"data/clip.{suffix}/notes.json")


# --- faults ---------------------------------------------------------------------------------


def test_a_fault_has_the_reason_and_detail_of_its_error_and_the_file_that_describes_the_turn() -> None:
    fault = turns.fault_of(BadClipError(Reason.TRUNCATED, "half of it"), "a.json")
    assert fault == Fault(reason=Reason.TRUNCATED, detail="half of it", file="a.json")


@pytest.mark.parametrize("name", ["nowhere.txt", "folder"])
def test_an_error_of_the_operating_system_is_told_without_this_machines_path(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=name) as error:
        Corpus.open(str(tmp_path)).read(name)
    words = turns.describe_error(error.value)
    assert words == f"{type(error.value).__name__}: {os.strerror(error.value.errno or 0)}"
    assert str(tmp_path) not in words


def test_any_other_error_is_told_in_its_own_words() -> None:
    assert turns.describe_error(ValueError("no such split")) == "ValueError: no such split"
    assert turns.describe_error(KeyError("text")) == "KeyError: 'text'"


# --- files ----------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "corpus").mkdir()
    return Corpus.open(str(tmp_path / "corpus"))


def write(corpus: Corpus, data: bytes) -> str:
    (Path(corpus.root) / "a.txt").write_bytes(data)
    return "a.txt"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")), st.booleans())
@MANY
def test_a_text_file_is_read_without_its_byte_order_mark(text: str, has_mark: bool) -> None:
    class Memory(Corpus):
        def read(self, path: str, most: int | None = None) -> bytes:
            return (b"\xef\xbb\xbf" if has_mark else b"") + text.encode()

    assert turns.read_text(Memory(root="/", located={}), "a.txt") == text


def test_a_text_file_without_end_is_refused_before_it_fills_the_memory(corpus: Corpus) -> None:
    path = write(corpus, b"")
    os.truncate(Path(corpus.root) / path, 1 << 40)  # of zeros, that take no place on disk
    with pytest.raises(BadClipError, match="found more than 64 MiB, expected less in one file; divide it"):
        turns.read_text(corpus, path)
    os.truncate(Path(corpus.root) / path, 9)
    assert turns.read_text(corpus, path, most=9) == "\0" * 9
    with pytest.raises(BadClipError):
        turns.read_text(corpus, path, most=8)


def test_a_whole_number_of_endless_digits_is_infinity_and_costs_nothing_beside_it() -> None:
    text = '{"turn": %s, "low": -%s, "text": "%s", "next": 12}' % (("9" * 5000,) * 3)
    value = turns.parse_json(text)
    assert value == {"turn": math.inf, "low": -math.inf, "text": "9" * 5000, "next": 12}
    assert turns.turn_number(value["turn"]) is None


def test_bytes_that_are_no_utf_8_become_surrogates_which_cost_their_own_turn(corpus: Corpus) -> None:
    good, bad = turns.read_text(corpus, write(corpus, b"plain\nM\xeame")).split("\n")
    assert turns.is_text(good)
    assert not turns.is_text(bad)
    assert bad.encode(errors="surrogateescape") == b"M\xeame"


def test_a_strict_reader_is_told_of_them_at_once(corpus: Corpus) -> None:
    with pytest.raises(UnicodeDecodeError):
        turns.read_text(corpus, write(corpus, b"M\xeame"), "strict")


def test_a_file_outside_the_corpus_is_not_read(corpus: Corpus) -> None:
    (Path(corpus.root) / "leaving.txt").symlink_to("../secret.txt")
    for path in ("../secret.txt", "leaving.txt"):
        with pytest.raises(BadClipError) as refused:
            turns.read_text(corpus, path)
        assert refused.value.reason is Reason.REFUSED_PATH


def test_what_a_corpus_says_twice_is_compared_by_its_letters() -> None:
    turns.check_same("text", "It's fine.", '"its Fine"', "a.wav")
    turns.check_same("text", "It's fine.", None, "a.wav")
    with pytest.raises(BadClipError, match=r"a\.wav: found text 'No\.', expected its clip's, which is 'Yes'"):
        turns.check_same("text", "No.", "Yes", "a.wav")
