"""The card of a build merged into the one on the Hub: what a person wrote there survives.

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

_BUILD_KEYS = ("configs", "dataset_info", "size_categories")
_PLACEHOLDER = re.compile(r'load_dataset\("org/[^"]+"')


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedCard:
    """A card's text, and the keys that a person set to something else than the build."""

    text: str
    kept: tuple[str, ...]


def merge(repo_id: str, ours: str, remote: str | None, others: Collection[str]) -> MergedCard:
    """Merge the build's card, `ours`, into the repository's; `others` are files there that stay.

    Raises:
        UsageError: the repository's card has YAML that can not be read.
    """
    ours = _PLACEHOLDER.sub(f'load_dataset("{repo_id}"', ours, count=1)
    if remote is None:
        return MergedCard(text=ours, kept=())
    our_keys, our_text = _parse(ours, repo_id)
    their_keys, their_text = _parse(remote, repo_id)
    kept = [key for key in their_keys if key not in _BUILD_KEYS]
    keys = {**our_keys, **{key: their_keys[key] for key in kept}}
    keys |= _join_configs(our_keys, their_keys, others)
    head = CardData(**keys).to_yaml().strip()
    changed = tuple(key for key in kept if key in our_keys and our_keys[key] != their_keys[key])
    return MergedCard(text=f"---\n{head}\n---\n{_join_text(our_text, their_text)}", kept=changed)


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
    ours: Mapping[str, Any], theirs: Mapping[str, Any], others: Collection[str]
) -> dict[str, Any]:
    """Return `configs` and `dataset_info`: ours, then theirs that have files of their own.

    The default config stays the one that it was.
    """
    our_names = {config["config_name"] for config in ours["configs"]}
    their_configs: list[dict[str, Any]] = theirs.get("configs") or []
    kept = [
        config
        for config in their_configs
        if config["config_name"] not in our_names and _has_files(config, others)
    ]
    default = next((config["config_name"] for config in their_configs if config.get("default")), None)
    configs = [*ours["configs"], *kept]
    if default in {config["config_name"] for config in configs}:
        plain = [{key: config[key] for key in config if key != "default"} for config in configs]
        configs = [c | {"default": True} if c["config_name"] == default else c for c in plain]
    kept_names = {config["config_name"] for config in kept}
    infos = _infos(ours) + [
        info for info in _infos(theirs) if info.get("config_name", "default") in kept_names
    ]
    return {"configs": configs, "dataset_info": infos if len(infos) > 1 else infos[0]}


def _infos(keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a card's dataset_info as a list: of a single config it stands there without one."""
    infos = keys.get("dataset_info") or []
    return infos if isinstance(infos, list) else [infos]


def _has_files(config: Mapping[str, Any], files: Collection[str]) -> bool:
    data: Any = config.get("data_files") or f"{config.get('data_dir', '')}/**".lstrip("/")
    entries = [data] if isinstance(data, str | dict) else data
    paths = [entry["path"] if isinstance(entry, dict) else entry for entry in entries]
    patterns = [pattern for path in paths for pattern in ([path] if isinstance(path, str) else path)]
    return any(fnmatch(file, pattern) for pattern in patterns for file in files)


def _join_text(ours: str, theirs: str) -> str:
    begin, end = theirs.find(BEGIN), theirs.rfind(END)
    section = ours[ours.index(BEGIN) : ours.rindex(END) + len(END)]
    if 0 <= begin < end:
        return theirs[:begin] + section + theirs[end + len(END) :]
    return f"{theirs.rstrip()}\n\n{section}\n"
