"""Turns' texts as NeMo tokenises them, and their ids: each text is tokenised once, while it is remembered."""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from speechrows.conversations.duplex_tokens import plain
from speechrows.text.tokenizers import text_ids

PlainText = tuple[str, Sequence[int]]  # with its ids
_REMEMBERED = 1 << 16  # texts; then all are forgotten


class PlainTexts:
    """The plain texts of a tokenizer. A process that gets it begins without any."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, PlainText] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PlainTexts, (self._tokenizer,)

    def of(self, texts: Iterable[str]) -> dict[str, PlainText]:
        """The plain text of each, and its ids; of others, too."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        new = [*dict.fromkeys(text for text in texts if text not in self._known)]
        if new:
            plains = [*map(plain, new)]
            ids = text_ids(self._tokenizer, plains, split=True)
            self._known.update(zip(new, zip(plains, ids, strict=True), strict=True))
        return self._known
