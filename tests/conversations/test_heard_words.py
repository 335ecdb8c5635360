"""Words of a transcript at the times of what was heard: in order, inside the clip, and none is lost."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechrows.conversations.heard_words import timed
from speechrows.conversations.words import Word


def heard(*words: tuple[str, float, float]) -> list[Word]:
    return [Word(text=text, start_s=start, stop_s=stop) for text, start, stop in words]


def times(text: str, said: list[Word], start_s: float, stop_s: float) -> list[tuple[str, float, float, bool]]:
    words = timed(text.split(), said, start_s, stop_s)
    return [(word.text, round(word.start_s, 3), round(word.stop_s, 3), word.is_heard) for word in words]


def test_a_word_is_where_it_was_heard_however_it_is_spelt() -> None:
    said = heard((" oh", 10.2, 10.5), (" no", 10.6, 10.8), (" What", 11.5, 11.7))
    assert times("Oh, no! WHAT?", said, 10.0, 12.0) == [
        ("Oh,", 10.2, 10.5, True),
        ("no!", 10.6, 10.8, True),
        ("WHAT?", 11.5, 11.7, True),
    ]


def test_what_was_heard_as_other_words_has_their_time() -> None:
    said = heard(("my", 0.0, 0.4), ("toe", 0.5, 0.7), ("sees", 0.7, 1.1), ("and", 1.2, 1.4))
    assert times("my mitosis and", said, 0.0, 2.0)[1] == ("mitosis", 0.5, 1.1, True)
    assert times("my two cells and", said, 0.0, 2.0)[1:3] == [
        ("two", 0.5, 0.7, True),
        ("cells", 0.7, 1.1, True),
    ]


def test_what_was_not_heard_shares_the_time_between_its_neighbours_by_letters() -> None:
    said = heard(("where", 1.0, 1.5), ("here", 3.0, 3.5))
    assert times("where are cooks here", said, 1.0, 4.0) == [
        ("where", 1.0, 1.5, True),
        ("are", 1.5, 2.062, False),
        ("cooks", 2.062, 3.0, False),
        ("here", 3.0, 3.5, True),
    ]
    assert times("ah where here oh", said, 0.5, 4.0)[::3] == [
        ("ah", 0.5, 1.0, False),
        ("oh", 3.5, 4.0, False),
    ]


def test_neighbours_make_room_for_what_was_not_heard() -> None:
    said = heard(("a", 0.0, 0.4), ("b", 0.4, 0.8), ("c", 0.8, 1.0))
    assert times("a x b c", said, 0.0, 1.0) == [
        ("a", 0.0, 0.4, True),
        ("x", 0.4, 0.6, False),
        ("b", 0.6, 0.8, False),
        ("c", 0.8, 1.0, True),
    ]
    assert times("a b c x", said, 0.0, 1.0)[2:] == [("c", 0.8, 0.9, False), ("x", 0.9, 1.0, False)]


def test_of_a_clip_in_which_nothing_is_heard_words_fill_it_by_their_letters() -> None:
    assert times("one three", [], 5.0, 9.0) == [("one", 5.0, 6.5, False), ("three", 6.5, 9.0, False)]
    assert timed([], heard(("hm", 0.0, 1.0)), 0.0, 1.0) == []


TEXTS = st.sampled_from(["one", "two", "Three,", "four", "–", "...", "5", "six"])
TIMES = st.floats(-2.0, 14_402.0)
HEARD = st.lists(st.tuples(TEXTS, TIMES, TIMES), max_size=12)


@given(
    st.lists(TEXTS, max_size=12),
    st.lists(st.tuples(TEXTS, TIMES, TIMES), max_size=12),
    st.floats(0, 14_400),
    st.floats(1e-3, 20),
)
def test_words_are_the_transcripts_in_order_inside_the_clip_whatever_is_heard(
    texts: list[str], said: list[tuple[str, float, float]], start_s: float, seconds: float
) -> None:
    words = timed(texts, heard(*said), start_s, start_s + seconds)
    assert [word.text for word in words] == texts
    assert all(word.start_s < word.stop_s for word in words)
    for word, following in itertools.pairwise(words):
        assert word.stop_s == pytest.approx(min(word.stop_s, following.start_s), abs=1e-9)
    if words:
        assert start_s <= words[0].start_s
        assert words[-1].stop_s == pytest.approx(min(words[-1].stop_s, start_s + seconds), abs=1e-9)
