"""What a person chooses about rows: a builder's config, whose fields are the flags of `speechrows build`."""

import datetime
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from functools import cached_property
from typing import Any
from typing import ClassVar

import datasets

from speechrows.builder.inputs import Inputs
from speechrows.builds.sharding import SHARD_BYTES
from speechrows.codec import CODECS
from speechrows.codec import parse_rate
from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import listing_digest
from speechrows.corpora.folder import Corpus
from speechrows.corpora.turns import is_unicode
from speechrows.errors import UsageError
from speechrows.flags import flag
from speechrows.rows.segmentation import Segmentation
from speechrows.text.normalise import normalise
from speechrows.text.options import DEFAULT_DATE
from speechrows.text.options import TemplateOptions

ROW_VERSION = "1.0.0"  # of the row's content; a change makes caches and folders stale
MODEL_ROW_VERSION = "1.1.0"  # the same, of rows under a model's tokenizer: ids of the whole text since 0.2

_LATER_FLAGS = (
    "system",
    "min_seconds",
    "max_seconds",
    "merge_gap",
    "with_codec",
)  # which recipes of earlier folders lack
# Flags that a recipe has under another name, or not at all.
_APART = ("source", "audio_token", "channel", "generated")
_CHANNELS = {"mean": None, "left": 0, "right": 1}


@dataclass
class SpeechConfig(datasets.BuilderConfig):
    """What a person chooses about rows. Each field is a flag of `speechrows build`."""

    version: datasets.Version | str | None = datasets.Version(ROW_VERSION)  # noqa: RUF009
    source: str | None = flag(None, "the Hub repository that is read when there is no --data-dir")
    tokenizer: str | None = flag(None, "a Hub repository or a folder; without one, one token a byte")
    audio_token: str | None = flag(None, "the token that stands for the audio, if not the model's own")
    audio_tokens_per_second: str = flag("12.5", "placeholders a second of audio")
    validation_fraction: float = flag(0.0, "share of train that becomes validation, by a stable hash")
    channel: str = flag("mean", "of several channels: mean (all stored, as published), left, right, or 0, 1…")
    date: str = flag(DEFAULT_DATE.isoformat(), "the date that chat templates write")
    system: str | None = flag(None, "the system prompt of conversations without one of their own")
    min_seconds: float | None = flag(
        None, "shorter clips are left out, in whole tasks their conversations", kind=float
    )
    max_seconds: float | None = flag(
        None, "longer clips are left out, in whole tasks their conversations", kind=float
    )
    merge_gap: float | None = flag(
        None,
        "join a speaker's neighbouring slices of a recording, or clips whose starts are known, with at "
        "most so many seconds between",
        kind=float,
    )
    generated: Sequence[str] = flag(
        (), "columns to join: a folder of `speechrows generate`, or parquet of one's own", name="--with"
    )
    with_codec: str | None = flag(None, "the codec of codes and units of one's own", choices=(*CODECS,))

    EXTRA_TOKENS: ClassVar[tuple[str, ...]] = ()  # special tokens that this builder's rows are written with
    shard_bytes: ClassVar[int] = SHARD_BYTES  # of corpus files, at most, that one process builds in one go

    @cached_property
    def inputs(self) -> Inputs:
        """What this config names, opened once."""
        return Inputs(self)

    def __getstate__(self) -> dict[str, Any]:
        """Without what was opened: another process opens its own."""
        return {name: value for name, value in vars(self).items() if name != "inputs"}

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """The name of this config's cache: it changes with the corpus and the tokenizer.

        datasets itself would hash the name of data_dir, and return yesterday's rows for today's files.
        """
        self.check()
        config_id = super().create_config_id(config_kwargs, custom_features)
        joined = self.inputs.generated_digest if self.generated else None
        recipe = self.recipe(self.inputs.listing, joined)
        return f"{config_id}-{hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]}"

    def check(self) -> None:
        """Refuse values that make no rows.

        Raises:
            UsageError: which, what was found, what was expected.
        """
        parse_rate(self.audio_tokens_per_second)
        if self.channel not in _CHANNELS and not re.fullmatch("[0-9]{1,3}", self.channel):
            known = "mean, left, right or a number from 0"
            raise UsageError(f"channel: found {self.channel!r}, expected {known}")
        if isinstance(self.generated, str):
            raise UsageError(f"generated: found {self.generated!r}, expected a list of folders")
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(f"validation fraction: found {self.validation_fraction}, expected from 0 to 1")
        for name in ("min_seconds", "max_seconds", "merge_gap"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name.replace('_', ' ')}: found {value}, expected a number from 0")
        if self.system is not None:
            self.system = _checked_prompt(self.system)
        try:
            self.date = datetime.date.fromisoformat(self.date).isoformat()
        except ValueError:
            raise UsageError(f"date: found {self.date!r}, expected a day such as 2024-07-26") from None

    @property
    def kept_channel(self) -> int | None:
        """The channel, from 0, that is stored of clips with several; None for all, which loaders average."""
        return _CHANNELS[self.channel] if self.channel in _CHANNELS else int(self.channel)

    @property
    def segmentation(self) -> Segmentation:
        """How long clips may be, and which segments are joined."""
        return Segmentation(
            min_seconds=self.min_seconds, max_seconds=self.max_seconds, merge_gap=self.merge_gap
        )

    @property
    def template_options(self) -> TemplateOptions:
        """The choices that templates are compiled with."""
        return TemplateOptions.from_json(vars(self))

    def recipe(self, listing: list[Entry], joined: str | None) -> dict[str, Any]:
        """Everything that decides the rows, by name, without paths of this machine.

        `listing` are the files that are read; `joined` is the digest of the generated columns that the
        rows hold, None where they hold none.
        """
        own = {name: getattr(self, name) for name in flags_of(type(self)) if name not in _APART}
        for name in _LATER_FLAGS:
            if own[name] is None:  # as in the recipes of folders that were built before there was this flag
                del own[name]
        corpus = self.inputs.corpus
        return {
            **own,
            **({"channel": str(self.kept_channel)} if self.kept_channel is not None else {}),
            **({"generated": joined} if joined else {}),
            **({"revision": corpus.revision} if corpus.revision else {}),
            "row_version": ROW_VERSION if self.inputs.is_byte_level else MODEL_ROW_VERSION,
            "tokenizer": self.inputs.tokenizer_digest,
            "audio_tokens_per_second": str(parse_rate(self.audio_tokens_per_second)),
            "corpus": corpus.label,
            "listing": listing_digest(listing),
        }

    def open_corpus(self) -> Corpus:
        """The corpus at data_dir, or the Hub repository `source`.

        Raises:
            UsageError: there is none.
        """
        if not (self.data_dir or (self.data_dir is None and self.source)):
            raise UsageError("no data_dir; expected the corpus' folder, or hf://datasets/org/name")
        return Corpus.open(str(self.data_dir) if self.data_dir else f"hf://datasets/{self.source}")


def _checked_prompt(text: str) -> str:
    """A system prompt as rows hold it."""
    prompt = normalise(text)
    if not prompt or not is_unicode(prompt):
        raise UsageError(f"system prompt: found {text!a:.80}, expected words in UTF-8")
    return prompt


def flags_of(config_class: type[SpeechConfig]) -> list[str]:
    """The fields of a config that are its own choices, not datasets' bookkeeping."""
    theirs = {field.name for field in fields(datasets.BuilderConfig)}
    return [field.name for field in fields(config_class) if field.name not in theirs]
