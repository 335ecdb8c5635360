"""A mix with what its sources inherit, and as a tree of shares."""

import os
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from speechrows.mix.checks import check
from speechrows.mix.conditions import Dnf
from speechrows.mix.conditions import parse_where
from speechrows.mix.values import Defaults
from speechrows.mix.values import Mix
from speechrows.mix.values import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenSource:
    """A source of rows with all that it inherits; `where` are conditions that all have to hold."""

    name: str
    path: str
    configs: tuple[str, ...]
    split: str
    where: tuple[Dnf, ...]
    tags: Mapping[str, str]
    given: Source


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """A group, or a source by its `number` among all; `weight` as it is given, None for its size."""

    name: str
    weight: float | None = None
    temperature: float = 1.0  # of its children's weights
    children: tuple["Branch", ...] = ()
    number: int | None = None

    def numbers(self) -> list[int]:
        """The numbers of its sources."""
        own = [] if self.number is None else [self.number]
        return own + [number for child in self.children for number in child.numbers()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A mix that was checked: its sources in order, and the tree of their shares."""

    mix: Mix
    sources: tuple[OpenSource, ...]
    root: Branch


@dataclass(kw_only=True, slots=True)
class _Resolver:
    mix: Mix
    sources: list[OpenSource] = field(default_factory=list)

    def branch(self, source: Source, above: Source, where: tuple[Dnf, ...], temperature: float) -> Branch:
        """The branch of a source or group; `above` has what it inherits."""
        dnf = parse_where(source.where)
        where = (*where, dnf) if dnf else where
        inherited = Source(
            path=source.path or above.path,
            config=source.config or above.config,
            split=source.split or above.split,
            tags={**above.tags, **source.tags},
        )
        if source.sources:
            temperature = temperature if source.temperature is None else source.temperature
            children = [self.branch(inner, inherited, where, temperature) for inner in source.sources]
            return Branch(
                name=source.name, weight=source.weight, temperature=temperature, children=tuple(children)
            )
        self._add(source, inherited, where)
        return Branch(name=source.name, weight=source.weight, number=len(self.sources) - 1)

    def _add(self, source: Source, inherited: Source, where: tuple[Dnf, ...]) -> None:
        defaults: Defaults = self.mix.defaults
        path, config = inherited.path or defaults.path, inherited.config or defaults.config
        if not path:
            name = source.name or f"number {len(self.sources) + 1}"
            expected = "expected a folder or org/name, its own, its group's or that of defaults"
            raise self.mix.problem(f"source {name} has no path; {expected}", source.line)
        path = _beside(self.mix.file, path)
        default_where = parse_where(defaults.where)
        self.sources.append(
            OpenSource(
                name=source.name,
                path=path,
                configs=(config,) if isinstance(config, str) else tuple(config),
                split=inherited.split or defaults.split,
                where=where or ((default_where,) if default_where else ()),
                tags=inherited.tags,
                given=source,
            )
        )


def resolve(mix: Mix) -> Resolved:
    """Check a mix, and let sources inherit from groups and defaults.

    Raises:
        UsageError: see check; or a source has no path, or two have one name.
    """
    check(mix)
    resolver = _Resolver(mix=mix)
    temperature = 1.0 if mix.temperature is None else mix.temperature
    children = [resolver.branch(source, Source(), (), temperature) for source in mix.sources]
    root = Branch(name="", temperature=temperature, children=tuple(children))
    return Resolved(mix=mix, sources=_named(mix, resolver.sources, root), root=root)


def _beside(file: str, path: str) -> str:
    """A source's path from the folder of the mix file, where there is such a place; else as it is given."""
    place = os.path.join(os.path.dirname(file), path)
    return place if file and os.path.exists(place) else path


def _named(mix: Mix, sources: Sequence[OpenSource], root: Branch) -> tuple[OpenSource, ...]:
    """The sources, each with a name: its own, else its folder's, where need be with config and number."""
    own = Counter(_names(root))
    twice = next((name for name, count in own.items() if count > 1), None)
    if twice is not None:
        lines = [source.given.line or 0 for source in sources if source.name == twice]
        message = f"two sources are called {twice}; expected a name of each"
        raise mix.problem(message, max(lines, default=0) or None)
    folders = [source.path.rstrip("/").rpartition("/")[2].partition("@")[0] for source in sources]
    names = list[str]()
    for source, folder in zip(sources, folders, strict=True):
        name = source.name or folder
        if not source.name and (folders.count(folder) > 1 or folder in own):
            name = base = "/".join([folder, "+".join(source.configs)])
            number = 1
            while name in own or name in names:
                number += 1
                name = f"{base}-{number}"
        names.append(name)
    return tuple(
        OpenSource(
            name=name, path=source.path, configs=source.configs, split=source.split, where=source.where,
            tags=source.tags, given=source.given,
        )
        for name, source in zip(names, sources, strict=True)
    )  # fmt: skip


def _names(branch: Branch) -> list[str]:
    names = [branch.name] if branch.name else []
    return names + [name for child in branch.children for name in _names(child)]
