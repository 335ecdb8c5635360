"""A mix as values: the same in Python as in a mix.yaml, a field a key."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from pathlib import Path
from typing import Any
from typing import Literal

from speechrows.errors import UsageError

Unit = Literal["samples", "hours", "tokens"]  # what shares of an epoch count
UNITS: tuple[Unit, ...] = ("samples", "hours", "tokens")
AMOUNTS = ("weight", "samples", "hours", "passes")  # how much of a source: one of these

# [column, operator, value], all of which hold; or a list of such lists, one of which holds.
Where = Sequence[Sequence[Any]] | Sequence[Sequence[Sequence[Any]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A source of rows, or a group of sources. What is not given is its group's, else that of `defaults`.

    One of `weight`, `samples`, `hours`, `passes` says how much of it an epoch has; without one that is all
    its rows, once. A group takes `weight` alone. `where` keeps the rows that it holds for, in a group those
    of its sources for which theirs holds too. `tags` are the user's own words about its rows.
    """

    name: str = ""
    path: str = ""
    config: str | Sequence[str] = ()
    split: str = ""
    where: Where = ()
    weight: float | None = None
    samples: int | None = None
    hours: float | None = None
    passes: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    temperature: float | None = None
    sources: Sequence["Source"] = ()
    line: int | None = field(default=None, compare=False, repr=False)  # in the file

    @property
    def amounts(self) -> list[str]:
        """The keys by which it says how much."""
        return [name for name in AMOUNTS if getattr(self, name) is not None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What stands where neither a source nor its groups say theirs."""

    path: str = ""
    config: str | Sequence[str] = ()
    split: str = "train"
    where: Where = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Weights of sources and groups, by name, for some epochs of a run; the last stage stays."""

    epochs: int | None = None
    weight: Mapping[str, float] = field(default_factory=dict)
    line: int | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """Sources, and how much of each an epoch has.

    Either sources count (`samples`, `hours`, `passes`), and an epoch is their sum; or they share one
    (`weight`), and `epoch` says how long it is: {"samples": N}, {"hours": N}, {"tokens": N}, "first" (as long
    as the first source lasts) or "all" (until each is through). Shares count what `by` says. Weights are
    taken to the power of `temperature`; where it is given without weights, sizes are.
    """

    seed: int = 0
    defaults: Defaults = field(default_factory=Defaults)
    temperature: float | None = None
    by: Unit | None = None
    epoch: Mapping[str, float] | str | None = None
    sources: Sequence[Source] = ()
    stages: Sequence[Stage] = ()
    file: str = field(default="", compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)  # of keys, in the file

    def problem(self, message: str, line: int | None = None) -> UsageError:
        """The error of something in the mix, with its file and line, where it was read from one."""
        place = f"{self.file}: " if self.file else ""
        return UsageError(f"{place}{'' if line is None else f'line {line}: '}{message}")


def keys_of(kind: type[Any]) -> list[str]:
    """The keys that a value of a mix.yaml has: the fields of its class that are compared."""
    return [entry.name for entry in fields(kind) if entry.compare]


def is_mix(path: object) -> bool:
    """Whether this is a mix: the name of a YAML file, a Mix, or several paths."""
    if isinstance(path, Mix | list | tuple):
        return True
    return isinstance(path, str | Path) and str(path).endswith((".yaml", ".yml"))
