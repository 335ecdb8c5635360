"""Reads clips from a corpus by its builder: their clip_ids are those of the rows that it builds."""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.builder import load_builder
from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flags_of
from speechrows.builder.find import check_config
from speechrows.builds.pipeline import fetched
from speechrows.corpora.reader import read_unit
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.generate.clip import InputClip
from speechrows.generate.clip import LazyAudio
from speechrows.types import AudioRef
from speechrows.types import Dialogue


def open_builder(
    address: str, config: str | None, data_dir: str | None, settings: Sequence[str]
) -> SpeechBuilder:
    """Open a builder by name or file, with the flags that decide its clip_ids.

    Raises:
        UsageError: there is no such builder, config or flag.
    """
    builder = load_builder(address)
    names = [named.name for named in builder.BUILDER_CONFIGS]
    name = config or builder.DEFAULT_CONFIG_NAME or names[0]
    check_config(builder, name)
    kind = builder.BUILDER_CONFIG_CLASS
    defaults = {field.name: field.default for field in fields(kind) if field.name in flags_of(kind)}
    chosen: dict[str, Any] = {}
    for setting in settings:
        flag, equals, value = setting.partition("=")
        flag = flag.strip("-").replace("-", "_")
        if not equals or flag not in defaults:
            flags = ", ".join(name.replace("_", "-") for name in defaults)
            raise UsageError(
                f"--set {setting}: expected NAME=VALUE, with a NAME of {flags}{did_you_mean(flag, defaults)}"
            )
        chosen[flag] = _value(setting, value, defaults[flag])
    return builder(config_name=name, data_dir=data_dir, **chosen)


def _value(setting: str, value: str, default: Any) -> Any:
    if isinstance(default, bool):
        return value.lower() in ("", "1", "true", "yes")
    try:
        return type(default)(value) if isinstance(default, int | float) else value
    except ValueError:
        raise UsageError(f"--set {setting}: expected a number, as {default} is") from None


def corpus_clips(builder: SpeechBuilder, split: str | None, *, audio: bool) -> Iterator[InputClip]:
    """Yield the clips of a corpus' dialogues, in order.

    Raises:
        UsageError: the folder holds nothing that the builder reads.
    """
    corpus = builder.config.inputs.corpus
    for task in builder.tasks(builder.config.name):
        reader, listing = builder.list_units(task)
        units = [unit for unit in listing.units if split is None or split in unit.splits]
        for i, unit in enumerate(fetched(corpus, units, audio=audio), 1):
            share = i / len(units) if i < len(units) else None
            for dialogue in read_unit(reader, unit, builder.name):
                if isinstance(dialogue, Dialogue) and split in (None, dialogue.split):
                    yield from _turns(dialogue, builder.config, share, audio)


def _turns(dialogue: Dialogue, config: SpeechConfig, share: float | None, audio: bool) -> Iterator[InputClip]:
    for turn in dialogue.turns:
        if turn.fault is None and turn.left_out is None and turn.audio is not None:
            yield InputClip(
                clip_id=dialogue.clip_id(turn),
                text=turn.text,
                traits=turn.traits,
                audio=_source(turn.audio, config) if audio else None,
                share=share,
            )


def _source(ref: AudioRef, config: SpeechConfig) -> LazyAudio:
    return LazyAudio(ref=ref, corpus=config.inputs.corpus, channel=config.kept_channel)
