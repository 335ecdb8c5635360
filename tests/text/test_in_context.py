"""A stretch of text between special tokens: its tokens, and which of them stand for which characters."""

import itertools

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from toys.texts import SPELLED
from toys.texts import TEXTS
from toys.tokenizer import REAL_TOKENIZERS
from toys.tokenizer import TOKENIZERS
from toys.tokenizer import toy_tokenizer

from speechrows.text.in_context import StretchEncoder

# Characters that are composed, taken apart, joined, or made longer or shorter.
HARD = (
    *("e\u0301te\u0301 \ufb01n", "한국어 \uff46\uff55", "👩\u200d👧 ok", "\u0130stanbul"),
    *("a\u200bb  c\n\nd", " ", ""),
)


@pytest.mark.parametrize("name", [*TOKENIZERS, *REAL_TOKENIZERS])
@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "between"])
@settings(deadline=None)  # the first of a tokenizer opens it
@given(target=TEXTS | st.sampled_from([*HARD, *SPELLED]))
def test_the_tokens_of_some_characters_are_all_whose_place_overlaps_them(
    name: str, target: str, *, is_alone: bool
) -> None:
    tokenizer = toy_tokenizer(name)
    around = None if is_alone else str(tokenizer.eos_token)
    lead, gap = "assistant\n", " \n"
    (stretch,) = StretchEncoder(tokenizer, around, around)([lead + target + gap])
    places = [(first - stretch.opening, last - stretch.opening) for first, last in stretch.encoding.offsets]
    places = places if is_alone else places[1:-1]
    assert len(places) == len(stretch.ids)
    ends = sorted({0, len(lead) - 1, len(lead), len(lead + target), len(lead + target + gap)})
    for start, stop in itertools.combinations(ends, 2):
        expected = [last > start and first < stop for first, last in places]
        assert stretch.within(start, stop).tolist() == expected
