"""What a text shows: words of any script, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.text.normalise import is_blank

INVISIBLE = [
    *("", " \n", "\u3000", "\u2028", "\x00\x1f\x7f\x85", "\u200b\u200c\u200d", "\ufeff", "\xad", "\u2060"),
    *("\u200e\u202a\u202e\u2066\u2069\u061c", "\ufe0f", "\U000e0100", "\U000e0061\U000e007f", "\u034f"),
    *("\u115f\u1160\u3164\uffa0", "\u2800", "\u180e\u180b", "\u17b4", "\ufff9\ufffb"),
]


@pytest.mark.parametrize("text", INVISIBLE, ids=ascii)
def test_a_text_of_invisible_characters_alone_is_blank_and_no_word_among_them_is(text: str) -> None:
    assert is_blank(text)
    assert is_blank(text * 3 + "\t")
    for word in ("a", "日", "?", "\U0001f937\u200d\u2640\ufe0f", "\u0600", "e\u0301"):
        assert not is_blank(text + word)
        assert not is_blank(word + text)


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S"]), min_size=1))
@MANY
def test_what_can_be_printed_is_not_blank_but_for_what_unicode_says_may_be_ignored(text: str) -> None:
    assert not is_blank(text) or all(
        any(one in blank for blank in INVISIBLE) or one > "\u17b0" for one in text
    )
