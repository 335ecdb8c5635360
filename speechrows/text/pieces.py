"""Texts put together from pieces, what a template writes and what a corpus says, as a tokenizer has them.

A text is cut at the special tokens that the template writes, and each stretch between two of them is
tokenised in its place: so its ids are those of the whole text, and nothing that the corpus says becomes a
special token.
"""

import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from speechrows.text.audio_token import audio_token
from speechrows.text.audio_token import special_tokens
from speechrows.text.in_context import Stretch
from speechrows.text.in_context import StretchEncoder
from speechrows.types import Int32


class Piece(NamedTuple):
    """A piece of a text; `own` is the corpus' word, in which nothing is special."""

    text: str
    own: bool = False
    is_target: bool = False


class PieceTokens(NamedTuple):
    """The tokens of a text: `ids` int32 [T], and which are of its target, bool [T]."""

    ids: Int32
    is_target: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    """What stands between two special tokens, None where the text begins or ends.

    Characters `target` of it, from the first to behind the last, are the text's target.
    """

    text: str
    before: str | None
    after: str | None
    target: tuple[int, int] | None


class PieceEncoder:
    """Encodes texts in pieces, under a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        names = sorted({*special_tokens(tokenizer), audio_token(tokenizer)}, key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, names))})")
        self._ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(name) for name in names}
        self._encoders: dict[tuple[str | None, str | None], StretchEncoder] = {}  # by the tokens around

    def __call__(self, texts: Sequence[Sequence[Piece]]) -> list[PieceTokens]:
        """The tokens of each text, in one batch."""
        cuts = [[*self._cut(pieces)] for pieces in texts]
        encoded = self._encoded(part for cut in cuts for part in cut if isinstance(part, _Stretch))
        return [self._joined(cut, encoded) for cut in cuts]

    def _cut(self, pieces: Sequence[Piece]) -> Iterator[_Stretch | str]:
        """The special tokens of a text, and the stretches between them."""
        before: str | None = None
        text, target = "", None
        for piece in pieces:
            parts = [piece.text] if piece.own else self._special.split(piece.text)
            for i, part in enumerate(parts):
                if i % 2 == 0:
                    target = (len(text), len(text) + len(part)) if piece.is_target else target
                    text += part
                    continue
                if text:
                    yield _Stretch(text=text, before=before, after=part, target=target)
                yield part
                before, text, target = part, "", None
        if text:
            yield _Stretch(text=text, before=before, after=None, target=target)

    def _encoded(self, stretches: Iterable[_Stretch]) -> dict[_Stretch, Stretch]:
        """The tokens of each stretch, in one batch for each pair of special tokens around them."""
        groups: dict[tuple[str | None, str | None], dict[_Stretch, None]] = {}
        for stretch in stretches:
            groups.setdefault((stretch.before, stretch.after), {})[stretch] = None
        encoded: dict[_Stretch, Stretch] = {}
        for around, group in groups.items():
            if around not in self._encoders:
                self._encoders[around] = StretchEncoder(self._tokenizer, *around)
            encoded |= zip(group, self._encoders[around]([stretch.text for stretch in group]), strict=True)
        return encoded

    def _joined(self, cut: Sequence[_Stretch | str], encoded: dict[_Stretch, Stretch]) -> PieceTokens:
        ids, marks = [np.empty(0, np.int32)], [np.empty(0, bool)]
        for part in cut:
            if isinstance(part, str):
                ids.append(np.array([self._ids[part]], np.int32))
                marks.append(np.zeros(1, bool))
            else:
                ids.append(encoded[part].ids)
                marks.append(_is_of_target(part, encoded[part]))
        return PieceTokens(np.concatenate(ids), np.concatenate(marks))


def _is_of_target(part: _Stretch, tokens: Stretch) -> npt.NDArray[np.bool_]:
    """Which tokens of a stretch are of the target; a space before it is of its first token."""
    if part.target is None:
        return np.zeros(len(tokens.ids), bool)
    start, stop = part.target
    first = start - part.text[:start].endswith(" ")
    return tokens.within(first, stop)
