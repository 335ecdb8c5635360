"""The words that a recogniser hears in a clip, beside those that its row says: their word error rate."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers.models.whisper.english_normalizer import BasicTextNormalizer
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from speechrows.conversations.hearing import heard_text
from speechrows.text.word_errors import errors


@dataclass(frozen=True)
class Hearing:
    """faster-whisper's model of a folder, and the language that it hears; None for whichever it is."""

    folder: str
    language: str | None

    def hear(self, data: bytes | memoryview, text: str) -> tuple[float, str]:
        """The word error rate of `text` against what is heard, in Whisper's own spelling, and that.

        Where the text has no word, it is 0 if none is heard, and 1 otherwise.

        Raises:
            BadClipError: the clip does not decode.
        """
        heard = heard_text(self.folder, data, self.language)
        wrong, num_words, _, _ = errors([self._normalise(text)], [self._normalise(heard)])
        return (wrong / num_words if num_words else float(wrong > 0)), heard

    @cached_property
    def _normalise(self) -> Any:
        return EnglishTextNormalizer({}) if self.language == "en" else BasicTextNormalizer()
