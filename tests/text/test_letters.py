"""Letters and scripts of a text."""

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.text.letters import num_letters
from speechrows.text.letters import scripts
from speechrows.text.letters import scripts_of_language


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("Hi, you!", 5),
        ("don't", 4),
        ("1999", 16),
        ("café", 4),
        ("cafe\u0301", 4),
        ("世界", 6),
        ("한국", 6),
        ("かな", 4),
    ],
)
def test_letters_are_counted_as_they_take_time_to_say(text: str, number: int) -> None:
    assert num_letters(text) == number


@MANY
@given(text=st.text(), more=st.text())
@example(text="", more="\U00017000")  # Tangut, whose ideographs have no names
def test_letters_of_two_texts_add_up(text: str, more: str) -> None:
    assert num_letters(text + " " + more) == num_letters(text) + num_letters(more)
    assert scripts(text + more).total() == sum(character.isalpha() for character in text + more)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Hello"),
        ("ru", "Привет"),
        ("zh-CN", "世界"),
        ("ja", "世界のカナ"),
        ("ko_KR", "한국"),
        ("hi", "नमस्ते"),
        ("xx", "Salut"),
    ],
)
def test_a_languages_text_is_in_its_scripts(language: str, text: str) -> None:
    assert set(scripts(text)) <= scripts_of_language(language)
    assert not set(scripts("Ελλάδα")) & scripts_of_language(language)
