"""Text as the ids of a tokenizer, of transformers or of sentencepiece, and ids that no word has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Protocol

from transformers import PreTrainedTokenizerFast

from speechrows.conversations.streams import StreamIds
from speechrows.errors import UsageError
from speechrows.text.tokenizers import open_tokenizer

_WORDS = 1 << 16  # that are remembered: most that are said were said before


class SentencePiece(Protocol):
    """A sentencepiece processor, as far as it is asked."""

    def encode(self, text: str, /) -> Sequence[int]:
        """The ids of a text."""
        ...


TextTokenizer = PreTrainedTokenizerFast | SentencePiece


class TextIds:
    """The ids that a tokenizer gives words, whole texts, and what a model writes around them."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer: Any = tokenizer
        self.is_fast = isinstance(tokenizer, PreTrainedTokenizerFast)
        self._ids_of: dict[str, Sequence[int]] = {}
        # Byte-level vocabularies have words with a space before them, which sentencepiece puts there itself.
        self._space = " " if self.is_fast and self._joins_words() else ""

    def word(self, word: str) -> Sequence[int]:
        """The ids of a word among others."""
        if word not in self._ids_of:
            if len(self._ids_of) == _WORDS:
                self._ids_of.clear()
            self._ids_of[word] = self.text(self._space + word)
        return self._ids_of[word]

    def text(self, text: str) -> Sequence[int]:
        """The ids of a text; what is spelt like a special token stays text."""
        if self.is_fast:
            return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return self.tokenizer.encode(text)

    def markup(self, text: str) -> Sequence[int]:
        """The ids of what a model writes, special tokens read as such."""
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def token(self, token: str) -> int | None:
        """The id of a token; None where the vocabulary has none of that name."""
        return self.tokenizer.get_vocab().get(token)

    def stream_ids(self) -> StreamIds:
        """The ids of a text stream: Moshi's own, where no word of this tokenizer has them; else new ones."""
        moshi = StreamIds()
        reserved = {moshi.text_padding, moshi.end_of_text_padding}
        if not self.is_fast or reserved <= {*self.tokenizer.all_special_ids}:
            return moshi
        size = len(self.tokenizer)
        return StreamIds(text_padding=size, end_of_text_padding=size + 1, text_initial=size + 2)

    def _joins_words(self) -> bool:
        return " " not in self.tokenizer.decode([*self.text("a"), *self.text("b")]).strip()


def text_tokenizer(tokenizer: TextTokenizer | str | Path) -> TextTokenizer:
    """Open a tokenizer: a sentencepiece model by its file `….model`, any other as `speechrows build` does.

    Raises:
        UsageError: it is not there, or sentencepiece is not installed.
    """
    if not isinstance(tokenizer, str | Path):
        if not hasattr(tokenizer, "encode"):
            raise UsageError(
                f"tokenizer: found {tokenizer!r:.80}, expected a name, a folder, a sentencepiece model, or "
                "either, open"
            )
        return tokenizer
    if not str(tokenizer).endswith(".model"):
        return open_tokenizer(str(tokenizer))
    try:
        import sentencepiece  # noqa: PLC0415  # where one is asked for alone

        return sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    except ImportError as error:
        raise UsageError(f"tokenizer {tokenizer}: {error}; it needs: pip install sentencepiece") from error
    except (OSError, RuntimeError) as error:
        raise UsageError(f"tokenizer {tokenizer}: found {error}; expected a sentencepiece model") from error
