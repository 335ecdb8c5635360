"""What a build reads, each opened once: corpus, listing, tokenizer, generated columns."""

from functools import cached_property
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerFast

from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.sidecar.join import GeneratedColumns
from speechrows.text import tokenizers

if TYPE_CHECKING:
    from speechrows.builder.config import SpeechConfig


class Inputs:
    """What a config names, opened when it is first asked for."""

    def __init__(self, config: "SpeechConfig") -> None:
        self._config = config

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus."""
        return self._config.open_corpus()

    @cached_property
    def listing(self) -> list[Entry]:
        """Every file of the corpus, sorted by path."""
        return self.corpus.list()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer, with every token that rows are written with."""
        config = self._config
        return tokenizers.open_tokenizer(config.tokenizer, config.EXTRA_TOKENS, config.audio_token)

    @cached_property
    def tokenizer_digest(self) -> str:
        """A digest of everything of the tokenizer that decides ids."""
        return tokenizers.fingerprint(self.tokenizer)

    @cached_property
    def is_byte_level(self) -> bool:
        """True for the default tokenizer, wherever it was opened from."""
        if self._config.tokenizer is None and self._config.audio_token is None:
            return True
        default = tokenizers.open_tokenizer(None, self._config.EXTRA_TOKENS)
        return self.tokenizer_digest == tokenizers.fingerprint(default)

    @cached_property
    def generated(self) -> GeneratedColumns:
        """The generated columns that are joined."""
        return GeneratedColumns.open(self._config.generated, self._config.with_codec)

    @cached_property
    def generated_digest(self) -> str:
        """A digest of their values: reads all of them."""
        return self.generated.digest()
