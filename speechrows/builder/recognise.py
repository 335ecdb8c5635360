"""`speechrows inspect`: which builders read a folder, how much each finds there, and how to build it."""

import itertools
import shlex
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.builder import load_builder
from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import basename
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Reader
from speechrows.corpora.reader import Unit
from speechrows.corpora.reader import list_units
from speechrows.corpora.reader import read_unit
from speechrows.errors import UsageError
from speechrows.flags import BUILDERS
from speechrows.rows.pairing import pair
from speechrows.types import Dialogue
from speechrows.types import Task
from speechrows.types import UnreadableFile

Units = Sequence[Unit[Any]]

_CERTAIN = 0.9  # of what is read first without a fault: no other builder is asked
_LOOKED_AT = 5  # units that are read, and dialogues of each
_MOST_KINDS = 5  # of files, that are named where none is read


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A builder that reads a folder: what it lists, which configs it makes, and what the first units hold."""

    builder: str
    contents: str
    configs: tuple[str, ...]
    good: int  # turns without a fault
    faulty: int  # others, and files or lines that can not be read

    @property
    def share(self) -> float:
        """The share of what was read that has no fault."""
        return self.good / max(1, self.good + self.faulty)


def inspect(address: str) -> str:
    """What a folder on disk, or at an fsspec address, holds, in words, with the commands that build it.

    Raises:
        UsageError: there is no such folder, or no builder reads it; it says which files were found.
    """
    corpus = Corpus.open(address, flag="inspect")
    entries = corpus.list()
    matches, troubles = list[Match](), list[str]()
    for name in BUILDERS:
        try:
            match = _match(name, address, corpus, entries)
        except UsageError as error:
            troubles.append(f"  {name}: {error}")
            continue
        if match is not None and match.good:
            matches.append(match)
            if match.share > _CERTAIN:
                break  # BUILDERS begin with the corpora that are known by name
    if not matches:
        raise UsageError(_nothing(address, entries, troubles))
    matches.sort(key=lambda match: -match.share)
    return "\n".join(line for match in matches for line in _lines(match, address))


def _match(name: str, address: str, corpus: Corpus, entries: list[Entry]) -> Match | None:
    """What a builder finds; None where that is nothing. Raises UsageError where no config can be built."""
    builder = load_builder(name)
    configs = dict[str, tuple[Reader[Any], Units, str]]()
    error: UsageError | None = None
    for config in builder.BUILDER_CONFIGS:
        if config.name in builder.UNIONS:
            continue
        (task,) = builder.tasks(config.name)
        chosen = builder.BUILDER_CONFIG_CLASS(name=config.name, data_dir=address)
        reader = builder.READER(corpus, chosen, task)
        try:
            listing = list_units(reader, corpus, entries, name)
        except UsageError as refusal:
            error = error or refusal
            continue
        if listing.units and _has_rows(builder, reader, listing.units, task):
            configs[config.name] = reader, listing.units, listing.contents
    if not configs:
        if error is not None:
            raise error
        return None
    usual = str(builder.DEFAULT_CONFIG_NAME)
    first = usual if usual in configs else next(iter(configs))
    reader, units, contents = configs[first]
    good, faulty = _counts(reader, units, name)
    others = [config for config in configs if config != first]
    return Match(builder=name, contents=contents, configs=(first, *others), good=good, faulty=faulty)


def _dialogues(
    reader: Reader[Any], units: Sequence[Unit[Any]], name: str
) -> Iterator[Dialogue | UnreadableFile]:
    """The first dialogues of the first units."""
    for unit in units[:_LOOKED_AT]:
        yield from itertools.islice(read_unit(reader, unit, name), _LOOKED_AT)


def _has_rows(builder: type[SpeechBuilder], reader: Reader[Any], units: Units, task: Task) -> bool:
    """Whether what is read first has an item of a task, and what the task needs of it."""
    if task.needs not in (None, *builder.HAS):
        return False
    return any(
        isinstance(dialogue, Dialogue) and pair(dialogue, task)[0]
        for dialogue in _dialogues(reader, units, builder.__name__)
    )


def _counts(reader: Reader[Any], units: Units, name: str) -> tuple[int, int]:
    """Turns without a fault among what is read first, and faults."""
    good = faulty = 0
    for dialogue in _dialogues(reader, units, name):
        if isinstance(dialogue, UnreadableFile):
            faulty += not dialogue.is_remark
        else:
            lost = sum(turn.fault is not None for turn in dialogue.turns)
            good, faulty = good + len(dialogue.turns) - lost, faulty + lost
    return good, faulty


def _lines(match: Match, address: str) -> list[str]:
    faults = f"; of what was read first, {match.faulty} of {match.good + match.faulty} turns have faults"
    first, *others = match.configs
    more = [f"  other configs: {', '.join(others)}"] if others else []
    command = f"speechrows build {match.builder} {first} --data-dir {shlex.quote(address)}"
    return [
        f"{match.builder}: {match.contents}{faults if match.faulty else ''}",
        f"  {command} --out rows/{match.builder}",
        *more,
    ]


def _nothing(address: str, entries: Sequence[Entry], troubles: Sequence[str]) -> str:
    """Why no builder reads a folder: which kinds of files lie there, and what builders said of them."""
    kinds = Counter(f".{basename(entry.path).rpartition('.')[2]}" for entry in entries)
    files = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_MOST_KINDS)) or "no file"
    expected = f"one of the corpora of {', '.join(BUILDERS)}; see docs/your-data.md"
    refusals = "\n".join(["", *troubles]) if troubles else ""
    return f"{address}: found {files}, which no builder reads; expected {expected}{refusals}"
