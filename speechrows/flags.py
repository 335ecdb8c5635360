"""A dataclass' fields as flags of a command line: `audio_tokens` is `--audio-tokens`."""

import argparse
from collections.abc import Iterable
from dataclasses import MISSING
from dataclasses import Field
from pathlib import Path
from typing import Any


def add_flags(parser: argparse.ArgumentParser, fields: Iterable[Field[Any]]) -> None:
    """Add a flag for each field, of the type of its default.

    Its `metadata` may have `help`, `flag` (another name), `metavar` and `choices`. A field that is a tuple
    may be given repeatedly; one that is false is switched on, one that is true can be switched off.
    """
    for field in fields:
        flag = field.metadata.get("flag") or f"--{field.name.replace('_', '-')}"
        default: Any = None if field.default is MISSING else field.default
        told: dict[str, Any] = {
            "dest": field.name,
            "default": default,
            "help": field.metadata.get("help", ""),
        }
        told |= {name: field.metadata[name] for name in ("metavar", "choices") if name in field.metadata}
        if isinstance(default, bool):
            told["action"] = argparse.BooleanOptionalAction if default else "store_true"
        elif isinstance(default, tuple):
            told |= {"action": "append", "default": []}
        else:
            told["type"] = type(default) if isinstance(default, int | float | Path) else str
            told["help"] += f" (default: {default})"
        parser.add_argument(flag, **told)
