"""Reading mix.yaml: safely, in bounded memory, with the line of whatever is wrong."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.errors import first_line
from speechrows.mix.checks import check
from speechrows.mix.values import Defaults
from speechrows.mix.values import Mix
from speechrows.mix.values import Source
from speechrows.mix.values import Stage
from speechrows.mix.values import keys_of
from speechrows.storage.card_head import LOADER

_MOST_BYTES = 1 << 20  # of a file: some ten thousand sources
_DEEPEST = 24  # lists and maps inside one another
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)e[-+]?\d+", re.ASCII | re.IGNORECASE)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_ALIASES = {"target_samples": "samples"}  # the word of the founding mix


def read_mix(path: str | Path) -> Mix:
    """The mix of a file.

    Raises:
        UsageError: it can not be read, or says no mix; the message says the line, and what is expected.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; expected a mix, a YAML file") from error
    try:
        return parse_mix(data.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: found {error}; expected YAML in UTF-8") from error


def parse_mix(text: str, file: str = "") -> Mix:
    """The mix that a YAML text says; `file` is its name in errors.

    Raises:
        UsageError: see read_mix.
    """
    return _Reader(file).mix(text)


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file
        self._scalars = SafeConstructor()

    def mix(self, text: str) -> Mix:
        if len(text) > _MOST_BYTES:
            raise self._problem(None, f"found more than {_MOST_BYTES} bytes, expected a mix of at most those")
        try:
            self._check_events(text)
            root = yaml.compose(text, Loader=LOADER)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark and error.problem_mark.line + 1
            raise self._problem(line, f"is no YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise self._problem(None, f"is no YAML: {first_line(error)}") from error
        pairs = self._pairs(root, "the mix", keys_of(Mix))
        values = {
            key: self._plain(node)
            for key, node in pairs.items()
            if key in ("seed", "by", "epoch", "temperature")
        }
        if "defaults" in pairs:
            defaults = self._pairs(pairs["defaults"], "defaults", keys_of(Defaults))
            values["defaults"] = Defaults(**{key: self._plain(node) for key, node in defaults.items()})
        items = enumerate(self._items(pairs.get("stages"), "stages"))
        stages = tuple(self._stage(node, number) for number, node in items)
        mix = Mix(
            **values,
            sources=self._sources(pairs.get("sources"), "the mix"),
            stages=stages,
            file=self._file,
            lines={key: node.start_mark.line + 1 for key, node in pairs.items()},
        )
        check(mix)
        return mix

    def _check_events(self, text: str) -> None:
        """Refuse what a few lines can blow up, before anything is made of it: anchors, and deep nesting."""
        depth = 0
        for event in yaml.parse(text, Loader=LOADER):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise self._problem(
                    line, f"found the anchor {event.anchor!r:.80}; a mix has none: defaults and groups say "
                    "once what several sources share"
                )  # fmt: skip
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > _DEEPEST:
                    nesting = f"found {depth} lists and maps in one another"
                    raise self._problem(line, f"{nesting}, expected at most {_DEEPEST}")
            depth -= isinstance(event, yaml.CollectionEndEvent)

    def _sources(self, node: yaml.Node | None, parent: str) -> tuple[Source, ...]:
        items = enumerate(self._items(node, parent))
        return tuple(self._source(item, f"{parent}[{number}]") for number, item in items)

    def _source(self, node: yaml.Node, place: str) -> Source:
        pairs = self._pairs(node, f"source {place}", keys_of(Source), _ALIASES)
        values = {key: self._plain(value) for key, value in pairs.items() if key != "sources"}
        name = values.get("name")
        inner = self._sources(pairs.get("sources"), name if isinstance(name, str) and name else place)
        return Source(**values, sources=inner, line=_line(node))

    def _stage(self, node: yaml.Node, number: int) -> Stage:
        pairs = self._pairs(node, f"stages[{number}]", keys_of(Stage))
        return Stage(**{key: self._plain(value) for key, value in pairs.items()}, line=_line(node))

    def _items(self, node: yaml.Node | None, place: str) -> list[yaml.Node]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise self._problem(_line(node), f"{place}: found {_kind(node)}, expected a list")
        return list(node.value)

    def _pairs(
        self,
        node: yaml.Node | None,
        place: str,
        keys: list[str] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> dict[str, yaml.Node]:
        """The pairs of a map, each key once; `keys` are those that there may be."""
        if not isinstance(node, yaml.MappingNode):
            line, kind = (None, "nothing") if node is None else (_line(node), _kind(node))
            raise self._problem(line, f"{place}: found {kind}, expected keys: {', '.join(keys or ['NAME'])}")
        pairs, lines = dict[str, yaml.Node](), dict[str, int]()
        for key_node, value in node.value:
            written = self._plain(key_node)
            key = (aliases or {}).get(written, written) if isinstance(written, str) else written
            line = _line(key_node)
            if not isinstance(key, str) or (keys is not None and key not in keys):
                meant = did_you_mean(str(key), keys or ()).replace("; ", ", ")
                raise self._problem(
                    line, f"{place} has no key {key!r:.80}{meant}. Keys: {', '.join(keys or ['NAME'])}"
                )
            if key in pairs:
                raise self._problem(line, f"{key} stands twice here; first on line {lines[key]}")
            pairs[key], lines[key] = value, line
        return pairs

    def _plain(self, node: yaml.Node) -> Any:
        """A node as plain values: of YAML's own types, no objects."""
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            return {key: self._plain(value) for key, value in self._pairs(node, "this map").items()}
        if node.tag == "tag:yaml.org,2002:value":  # the plain word `=`
            return node.value
        is_plain = isinstance(node, yaml.ScalarNode) and not node.style
        if is_plain and _NUMBER.fullmatch(node.value):  # 1e6, to PyYAML a text
            return float(node.value)
        if node.tag in _NUMBERS and ":" in node.value:  # 1:30, to PyYAML 90
            raise self._problem(_line(node), f"found {node.value!r:.80}, expected a number without a colon")
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise self._problem(
                _line(node), f"found {node.value!r:.80}, which is no value of YAML"
            ) from error

    def _problem(self, line: int | None, message: str) -> UsageError:
        return Mix(file=self._file).problem(message, line)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value[:80]) if node.value else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a map"
