"""Texts for property tests."""

from hypothesis import strategies as st

from speechrows.types import AUDIO_TOKEN
from toys.tokenizer import SPECIALS

SPELLED = [*SPECIALS, AUDIO_TOKEN]  # what a transcript may spell, and must not thereby say

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=24)
WORDS = st.lists(
    st.sampled_from(
        ["the", "inner", " ", "  ", "\n", "\n\n", "é", "e\u0301", "日本", "\u2581", "don't", "İ"]
    ),
    max_size=8,
).map("".join)
SPELLING = st.lists(st.one_of(st.sampled_from(SPELLED), st.sampled_from(["the", " ", "x"])), max_size=5).map(
    "".join
)
TEXTS = st.one_of(UNICODE, WORDS, SPELLING)
