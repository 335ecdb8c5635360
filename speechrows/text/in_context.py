"""Tokenise corpus text as in the middle of a text: the ids that the whole text has there.

Tokenizers cut a text at its special tokens and encode each stretch on its own. But what a stretch's ids
are depends on where it stands: sentencepiece writes a space at the beginning of a text, or of every
stretch; some special tokens swallow the white space beside them. So a stretch is encoded between two
sentinels that behave as its neighbours do. They are the only special tokens there: a transcript that
spells `<|im_end|>` or `<audio>` stays text.
"""

import itertools
from bisect import bisect_left
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken
from tokenizers import Encoding
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from speechrows.types import Int32


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """The tokens of a stretch, `ids` int32 [T]: those of an encoding, between its sentinels."""

    ids: Int32
    encoding: Encoding
    opening: int  # characters of the sentinel before the stretch, which is one token; 0 without one

    def within(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which tokens stand for a character from `start` to before `stop`, bool [T].

        They are found by halves, as tokens have the order of their characters: a list of all places takes
        longer to make than the tokens.
        """
        first = 1 if self.opening else 0
        places = range(first, first + len(self.ids))
        begin = bisect_right(places, start + self.opening, key=lambda i: self._characters(i)[1])
        end = bisect_left(places, stop + self.opening, key=lambda i: self._characters(i)[0])
        is_within = np.zeros(len(self.ids), np.bool_)
        is_within[begin:end] = True
        return is_within

    def _characters(self, token: int) -> tuple[int, int]:
        """The first character of a token of the encoding, and the one behind its last."""
        span = self.encoding.token_to_chars(token)
        assert span is not None  # which is that of tokens that a post-processor adds
        return span


class StretchEncoder:
    """Encodes what stands between two special tokens, `before` and `after`, of a tokenizer.

    Where one is None, the text begins or ends there.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, before: str | None, after: str | None) -> None:
        by_id = tokenizer.added_tokens_decoder  # made anew by each look: milliseconds, of ten thousand units
        added = {token.content: token for token in by_id.values()}
        # Added tokens that are not special: corpus text may spell them.
        self._plain = {token_id: token for token_id, token in by_id.items() if not token.special}
        self._tokenizer = tokenizer
        self._before = None if before is None else added[before]
        self._after = None if after is None else added[after]
        self._cores: dict[int, Tokenizer] = {}  # by the number of their sentinels

    def __call__(self, texts: Sequence[str]) -> list[Stretch]:
        """The tokens of each text, in one batch."""
        number = next(
            n for n in itertools.count() if not any(mark in text for text in texts for mark in _marks(n))
        )
        if number not in self._cores:
            self._cores[number] = self._core(_marks(number))
        core, (opening, closing) = self._cores[number], _marks(number)
        opening, closing = opening if self._before else "", closing if self._after else ""
        encodings = core.encode_batch(
            [f"{opening}{text}{closing}" for text in texts], add_special_tokens=False
        )
        inner = slice(1 if opening else 0, -1 if closing else None)
        ids_of = [encoding.ids[inner] for encoding in encodings]
        # Of all texts at once: an array of each takes longer.
        ids = self._in_tokenizer(np.fromiter(itertools.chain.from_iterable(ids_of), np.int32), core)
        ends = itertools.accumulate(map(len, ids_of), initial=0)
        return [
            Stretch(ids=ids[i:j], encoding=encoding, opening=len(opening))
            for encoding, (i, j) in zip(encodings, pairwise(ends), strict=True)
        ]

    def _in_tokenizer(self, ids: Int32, core: Tokenizer) -> Int32:
        """The tokenizer's own ids for a core's: special tokens, which come between others, are not there."""
        others = {core.token_to_id(token.content): token_id for token_id, token in self._plain.items()}
        changed = {own: token_id for own, token_id in others.items() if own != token_id}
        if not changed:
            return ids
        return np.fromiter(map(changed.get, ids.tolist(), ids.tolist()), np.int32, len(ids))

    def _core(self, marks: tuple[str, str]) -> Tokenizer:
        """The tokenizer's own rules over its own vocabulary, with the sentinels for special tokens."""
        backend = self._tokenizer.backend_tokenizer
        core = Tokenizer(backend.model)
        if backend.normalizer is not None:
            core.normalizer = backend.normalizer
        if backend.pre_tokenizer is not None:
            core.pre_tokenizer = backend.pre_tokenizer
        core.add_tokens([*self._plain.values()])
        for mark, neighbour in zip(marks, (self._before, self._after), strict=True):
            strips = {"lstrip": neighbour.lstrip, "rstrip": neighbour.rstrip} if neighbour else {}
            core.add_special_tokens([AddedToken(mark, normalized=False, special=True, **strips)])
        return core


def _marks(number: int) -> tuple[str, str]:
    """Sentinels of the private use area; the next number's where a text has these."""
    return f"\ue000{number}\ue001", f"\ue000{number}\ue002"
