"""What a card says of the files of its folder: which shards a config has, and how many rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """The patterns of each config's splits, and their rows by config and split, where the card tells them."""

    configs: dict[str, dict[str, list[str]]]
    num_rows: dict[tuple[str, str], int]

    @staticmethod
    def of(card: Mapping[str, Any]) -> "CardFacts":
        """Read the keys of a card.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: they are not of the form that datasets defines.
        """
        configs = {
            _text(config["config_name"]): {
                _text(files["split"]): _patterns(files["path"]) for files in config["data_files"]
            }
            for config in card.get("configs") or []
            if not _is_of_others(config.get("data_files"))
        }
        infos = card.get("dataset_info") or []  # of a single config, it stands there without a list
        num_rows = {
            (_text(info.get("config_name", "default")), _text(split["name"])): int(split["num_examples"])
            for info in (infos if isinstance(infos, list) else [infos])
            for split in info.get("splits") or []
        }
        return CardFacts(configs=configs, num_rows=num_rows)


def _is_of_others(data_files: Any) -> bool:
    """Whether a config's files are of a form that datasets knows and builds do not write."""
    return not data_files or isinstance(data_files, str) or all(isinstance(name, str) for name in data_files)


def _patterns(value: Any) -> list[str]:
    return [_text(pattern) for pattern in ([value] if isinstance(value, str) else value)]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80}, expected a text")
    return value
