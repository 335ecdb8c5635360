"""What traits.py promises: every spelling of a corpus becomes one of a closed set of words, or None."""

import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from speechrows.traits import EMOTIONS
from speechrows.traits import emotion


def test_the_emotions_are_the_seven_of_the_founding_documents():
    assert EMOTIONS == ("angry", "happy", "sad", "surprise", "neutral", "fear", "disgust")


@pytest.mark.parametrize("name", EMOTIONS)
def test_a_normalised_emotion_stays_itself(name):
    assert emotion(name) == name


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Fearful", "fear"),
        (" surprised\n", "surprise"),
        ("pleasant surprise", "surprise"),
        ("DISGUSTED", "disgust"),
        ("calm", "neutral"),
        ("joy", "happy"),
        ("anger", "angry"),
        ("happiness", "happy"),
        ("sadness", "sad"),
    ],
)
def test_a_corpus_spelling_becomes_the_word_that_rows_use(raw, expected):
    assert emotion(raw) == expected


@pytest.mark.parametrize("raw", [None, "", " ", "unknown", "neutrall", "happy sad"])
def test_what_is_unknown_is_none(raw):
    assert emotion(raw) is None


@toys.FEW
@given(st.text())
def test_any_text_is_one_of_the_words_or_none(raw):
    assert emotion(raw) in (*EMOTIONS, None)
