"""What a mix may say: contradictions are refused with both sides, before anything is opened."""

import math
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.mix.conditions import kinds
from speechrows.mix.conditions import parse_where
from speechrows.mix.values import UNITS
from speechrows.mix.values import Defaults
from speechrows.mix.values import Mix
from speechrows.mix.values import Source

MOST_SOURCES = (1 << 15) - 1  # plans number them in 16 bits
EPOCH_IS = (
    "epoch: {samples: N}, {hours: N}, {tokens: N}, first (ends when a source is through) or all (ends when "
    "every source is through)"
)


def check(mix: Mix) -> None:
    """Check that a mix has the values that it may have, and does not contradict itself.

    Raises:
        UsageError: it says where, what was found and what is expected.
    """
    lines = mix.lines
    if not _is_whole(mix.seed):
        raise mix.problem(f"seed: found {_shown(mix.seed)}, expected a whole number", lines.get("seed"))
    if mix.by is not None and mix.by not in UNITS:
        expected = f"expected {', '.join(UNITS)}{did_you_mean(str(mix.by), UNITS)}"
        raise mix.problem(f"by: found {_shown(mix.by)}, {expected}", lines.get("by"))
    try:
        _check_number("temperature", mix.temperature)
        _check_place(mix.defaults)
    except UsageError as error:
        raise mix.problem(str(error), lines.get("temperature") or lines.get("defaults")) from error
    if not mix.sources:
        raise mix.problem("the mix has no sources; expected a list of them")
    if len([*walk(mix.sources, "")]) > MOST_SOURCES:
        raise mix.problem(f"the mix has more than {MOST_SOURCES} sources and groups")
    for label, source in walk(mix.sources, "the mix"):
        try:
            _check_source(source)
        except UsageError as error:
            raise mix.problem(f"source {label}: {error}", source.line) from error
    _check_how(mix)
    _check_epoch(mix)
    _check_stages(mix)


def walk(sources: Sequence[Source], parent: str) -> Iterator[tuple[str, Source]]:
    """All sources and groups with what they are called in errors, each group before its own."""
    for number, source in enumerate(sources):
        label = str(source.name) if source.name else f"{parent}[{number}]"
        yield label, source
        yield from walk(source.sources, label)


def is_shared(mix: Mix) -> bool:
    """Whether sources share an epoch, rather than count."""
    sources = [source for _, source in walk(mix.sources, "")]
    weighted = any(source.weight is not None or source.temperature is not None for source in sources)
    return weighted or mix.temperature is not None or mix.epoch is not None


def _check_source(source: Source) -> None:
    for name in ("name", "path", "split"):
        if not isinstance(value := getattr(source, name), str):
            raise UsageError(f"{name}: found {_shown(value)}, expected text")
    _check_place(source)
    if len(amounts := source.amounts) > 1:
        raise UsageError(f"says how much in two ways: {amounts[0]} and {amounts[1]}. Keep one")
    for name in ("weight", "hours", "passes", "temperature"):
        _check_number(name, getattr(source, name))
    if source.samples is not None and not (_is_whole(source.samples) and source.samples >= 0):
        raise UsageError(f"samples: found {_shown(source.samples)}, expected a whole number from 0")
    if source.sources and amounts and amounts != ["weight"]:
        name = source.name or "this"
        raise UsageError(f"{name} is a group; a group takes weight, its sources take {amounts[0]}")
    if source.temperature is not None and not source.sources:
        raise UsageError("temperature: found it beside a source alone, expected it of a group or of the mix")
    _check_tags(source)


def _check_tags(source: Source) -> None:
    if not isinstance(source.tags, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"tags: found {_shown(source.tags)}, expected a map of words")
    for tag, word in source.tags.items():
        if tag in kinds():
            raise UsageError(f"a tag may not be called {tag}: rows have a column of that name")
        if not isinstance(word, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"tags: {tag}: found {_shown(word)}, expected text, in quotes where need be")


def _check_place(place: Source | Defaults) -> None:
    configs = [place.config] if isinstance(place.config, str) else place.config
    are_words = isinstance(configs, Sequence) and all(isinstance(name, str) for name in configs)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not are_words:
        raise UsageError(f"config: found {_shown(place.config)}, expected a config's name, or a list of them")
    parse_where(place.where)


def _check_how(mix: Mix) -> None:
    """A mix counts or shares; of a level of shares all have a weight, or none."""
    sources = [*walk(mix.sources, "the mix")]
    counted = next(((label, s) for label, s in sources if s.amounts and s.weight is None), None)
    weighted = next(((label, s) for label, s in sources if s.weight is not None), None)
    if counted and weighted:
        raise mix.problem(
            f"{weighted[0]} has a weight and {counted[0]} says {counted[1].amounts[0]}; a mix either shares "
            "(weights, and an epoch) or counts (samples, hours, passes: the epoch is their sum)",
            counted[1].line,
        )
    if counted and is_shared(mix):
        key = "epoch" if mix.epoch is not None else "temperature"
        raise mix.problem(
            f"{key} stands beside {counted[1].amounts[0]} of {counted[0]}; sources that count (samples, "
            "hours, passes) are an epoch, those that share one have weights",
            mix.lines.get(key, counted[1].line),
        )
    for level in _levels(mix.sources):
        given = [source.weight is not None for source in level]
        if any(given) and not all(given):
            line = level[given.index(False)].line
            raise mix.problem(
                "some sources have a weight and some have not; give all of them one, or none", line
            )


def _levels(sources: Sequence[Source]) -> Iterator[Sequence[Source]]:
    yield sources
    for source in sources:
        if source.sources:
            yield from _levels(source.sources)


def _check_epoch(mix: Mix) -> None:
    epoch, by, line = mix.epoch, mix.by or "samples", mix.lines.get("epoch")
    if epoch is None:
        if is_shared(mix):
            raise mix.problem(f"weights say shares of an epoch, so say how long one is: {EPOCH_IS}")
        if mix.by is not None:
            raise mix.problem("by: says what shares count; no source has a weight", mix.lines.get("by"))
        return
    if isinstance(epoch, Mapping) and len(epoch) == 1 and next(iter(epoch)) in UNITS:
        ((unit, count),) = epoch.items()
        try:
            _check_number("epoch", count)
        except UsageError as error:
            raise mix.problem(str(error), line) from error
        if unit != by:
            raise mix.problem(f"the epoch is given in {unit} and shares count {by}; say by: {unit}", line)
        if not count:
            raise mix.problem("epoch: found 0, expected a number above 0", line)
    elif epoch not in ("first", "all"):
        raise mix.problem(f"epoch: found {_shown(epoch)}, expected {EPOCH_IS}", line)


def _check_stages(mix: Mix) -> None:
    names = [source.name for _, source in walk(mix.sources, "") if source.name]
    for number, stage in enumerate(mix.stages):
        place = f"stages[{number}]"
        is_last = number + 1 == len(mix.stages)
        if stage.epochs is None and not is_last:
            raise mix.problem(f"{place}: has no epochs; only the last stage stays", stage.line)
        if stage.epochs is not None and not (_is_whole(stage.epochs) and stage.epochs > 0):
            epochs = _shown(stage.epochs)
            raise mix.problem(f"{place}: epochs: found {epochs}, expected a whole number from 1", stage.line)
        if not isinstance(stage.weight, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise mix.problem(f"{place}: weight: found {_shown(stage.weight)}, expected NAME: w", stage.line)
        if stage.weight and not is_shared(mix):
            raise mix.problem(
                f"{place} has weights and the sources count; give the sources weights", stage.line
            )
        for name, weight in stage.weight.items():
            if name not in names:
                meant = did_you_mean(str(name), names)
                raise mix.problem(
                    f"{place}: weight: found {name!r}, which no source is called{meant}", stage.line
                )
            try:
                _check_number(f"{place}: weight of {name}", weight)
            except UsageError as error:
                raise mix.problem(str(error), stage.line) from error


def _check_number(name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 <= value < math.inf):
        raise UsageError(f"{name}: found {_shown(value)}, expected a number from 0")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return f"{value!r:.80}"
