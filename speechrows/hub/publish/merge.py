"""A card that is published over one that is there: what a person wrote survives.

What describes the files is the build's: `configs`, `dataset_info`, the size, and the text between
the marks. Every other key and all other text stay as they stand on the Hub. Configs of other
files (those of `push_to_hub`) stay too.
"""

import re
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from huggingface_hub import CardData
from huggingface_hub import DatasetCard

from speechrows.card.prose import BEGIN
from speechrows.card.prose import END
from speechrows.errors import UsageError

_THE_BUILDS = ("configs", "dataset_info", "size_categories")
_PLACEHOLDER = re.compile(r'load_dataset\("org/[^"]+"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """A card's text, and the keys of it that a person set to something else than the build."""

    text: str
    kept: tuple[str, ...]


def merge(repo_id: str, ours: str, there: str | None, others: Collection[str]) -> Merged:
    """The card to publish: `ours`, over the one that is `there`; `others` are files that stay.

    Raises:
        UsageError: the card that is there has YAML that can not be read.
    """
    ours = _PLACEHOLDER.sub(f'load_dataset("{repo_id}"', ours, count=1)
    if there is None:
        return Merged(text=ours, kept=())
    mine, my_text = _parse(ours, repo_id)
    theirs, their_text = _parse(there, repo_id)
    kept = [key for key in theirs if key not in _THE_BUILDS]
    keys = {**mine, **{key: theirs[key] for key in kept}}
    _join_configs(keys, mine, theirs, others)
    head = CardData(**keys).to_yaml().strip()
    changed = tuple(key for key in kept if key in mine and mine[key] != theirs[key])
    return Merged(text=f"---\n{head}\n---\n{_join_text(my_text, their_text)}", kept=changed)


def _parse(card: str, repo_id: str) -> tuple[dict[str, Any], str]:
    if not card.lstrip().startswith("---"):  # DatasetCard would warn
        return {}, card
    try:
        parsed = DatasetCard(card.replace("\r\n", "\n"), ignore_metadata_errors=True)
    except Exception as error:  # of yaml, which is hub's dependency, or ValueError
        raise UsageError(
            f"{repo_id}: the YAML of its README.md can not be read ({error}). Mend or delete it there"
        ) from error
    return parsed.data.to_dict(), parsed.text


def _join_configs(
    keys: dict[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any], others: Collection[str]
) -> None:
    """Ours, then theirs that have files of their own; the default stays where it was."""
    names = {config["config_name"] for config in mine["configs"]}
    stay = [
        config
        for config in theirs.get("configs") or []
        if config["config_name"] not in names and _has_files(config, others)
    ]
    before = next((c["config_name"] for c in theirs.get("configs") or [] if c.get("default")), None)
    configs = [*mine["configs"], *stay]
    if before in {config["config_name"] for config in configs}:
        plain = [{key: config[key] for key in config if key != "default"} for config in configs]
        configs = [c | {"default": True} if c["config_name"] == before else c for c in plain]
    stay_names = {config["config_name"] for config in stay}
    infos = _infos(mine) + [
        info for info in _infos(theirs) if info.get("config_name", "default") in stay_names
    ]
    keys["configs"] = configs
    keys["dataset_info"] = infos if len(infos) > 1 else infos[0]


def _infos(keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A card's infos: of a single config, they stand there without a list."""
    infos = keys.get("dataset_info") or []
    return infos if isinstance(infos, list) else [infos]


def _has_files(config: Mapping[str, Any], files: Collection[str]) -> bool:
    data: Any = config.get("data_files") or f"{config.get('data_dir', '')}/**".lstrip("/")
    found = [data] if isinstance(data, str | dict) else data
    paths = [one["path"] if isinstance(one, dict) else one for one in found]
    patterns = [pattern for path in paths for pattern in ([path] if isinstance(path, str) else path)]
    return any(fnmatch(file, pattern) for pattern in patterns for file in files)


def _join_text(ours: str, theirs: str) -> str:
    begin, end = theirs.find(BEGIN), theirs.rfind(END)
    section = ours[ours.index(BEGIN) : ours.rindex(END) + len(END)]
    if 0 <= begin < end:
        return theirs[:begin] + section + theirs[end + len(END) :]
    return f"{theirs.rstrip()}\n\n{section}\n"
