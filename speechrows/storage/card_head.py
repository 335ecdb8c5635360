"""The YAML head of a card, by libyaml: PyYAML's own parser takes longer than the rest of a small build."""

from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

LOADER: Any = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # a PyYAML without libyaml has the slow ones alone
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def parse_head(card: str) -> dict[str, Any]:
    """The head of a README.md; empty where it has none.

    Raises:
        ValueError: it is no YAML of an object.
    """
    block = REGEX_YAML_BLOCK.search(card)
    if not block:
        return {}
    try:
        head = yaml.load(block[2], LOADER)
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(head, dict):
        raise ValueError(f"YAML of a {type(head).__name__}, expected an object")  # noqa: TRY004
    return head


def write_head(head: dict[str, Any]) -> str:
    """A head's YAML, as huggingface_hub writes it, without its fences.

    An object that stands in it several times is written once, and referred to (`&id001`, `*id001`).
    """
    return yaml.dump(head, Dumper=_DUMPER, sort_keys=False, allow_unicode=True).strip()
