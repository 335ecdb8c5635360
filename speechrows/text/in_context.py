"""Tokenise corpus text as in the middle of a text: the ids that the whole text has there.

Tokenizers cut a text at its special tokens and encode each stretch on its own. But what a stretch's ids
are depends on where it stands: sentencepiece writes a space at the beginning of a text, or of every
stretch; some special tokens swallow the white space beside them. So a stretch is encoded between two
sentinels that behave as its neighbours do. They are the only special tokens there: a transcript that
spells `<|im_end|>` or `<audio>` stays text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from speechrows.types import Int32

_OPEN, _CLOSE = "\ue000\ue001", "\ue000\ue002"  # of the private use area: no corpus text has them


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """The tokens of a stretch: `ids` int32 [T], and the characters that each stands for, `spans` [T, 2]."""

    ids: Int32
    spans: npt.NDArray[np.int64]


class StretchEncoder:
    """Encodes what stands between two special tokens, `before` and `after`, of a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, before: str | None, after: str | None) -> None:
        added = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
        backend = tokenizer.backend_tokenizer
        self._core = Tokenizer(backend.model)  # shares the vocabulary
        if backend.normalizer is not None:
            self._core.normalizer = backend.normalizer
        if backend.pre_tokenizer is not None:
            self._core.pre_tokenizer = backend.pre_tokenizer
        self._core.add_tokens([token for token in added.values() if not token.special])
        for sentinel, neighbour in ((_OPEN, before), (_CLOSE, after)):
            token = added.get(neighbour or "")
            strips = {"lstrip": token.lstrip, "rstrip": token.rstrip} if token else {}
            self._core.add_special_tokens([AddedToken(sentinel, normalized=False, special=True, **strips)])
        # Added tokens may have other numbers here: those in between, which are special, are not there.
        self._ids = {
            self._core.token_to_id(token.content): number
            for number, token in tokenizer.added_tokens_decoder.items()
            if not token.special and self._core.token_to_id(token.content) != number
        }
        self._open = "" if before is None else _OPEN
        self._close = "" if after is None else _CLOSE

    def __call__(self, texts: Sequence[str]) -> list[Stretch]:
        """The tokens of each text, in one batch."""
        encoded = self._core.encode_batch(
            [f"{self._open}{text}{self._close}" for text in texts], add_special_tokens=False
        )
        start, cut = bool(self._open), -1 if self._close else None
        return [
            Stretch(
                ids=np.array([self._ids.get(number, number) for number in encoding.ids[start:cut]], np.int32),
                spans=np.array(encoding.offsets[start:cut], np.int64).reshape(-1, 2) - len(self._open),
            )
            for encoding in encoded
        ]
