"""A dataclass' fields as flags of a command line: `audio_tokens` is `--audio-tokens`."""

import argparse
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import MISSING
from dataclasses import Field
from functools import partial
from pathlib import Path
from typing import Any

_PASSED_ON = ("choices", "metavar", "required")  # from a field's metadata to argparse


def add_flags(parser: argparse.ArgumentParser, fields: Iterable[Field[Any]]) -> None:
    """Add a flag for each field, of the type of its default.

    Its `metadata` may have `help`, `flag` (another name), `metavar`, `choices`, `required` and, of a
    number, `least`.
    A field that is a tuple may be given repeatedly; one that is true or false has a `--no-…` too.
    """
    for field in fields:
        flag = field.metadata.get("flag") or f"--{field.name.replace('_', '-')}"
        default: Any = None if field.default is MISSING else field.default
        told: dict[str, Any] = {
            "dest": field.name,
            "default": default,
            "help": field.metadata.get("help", ""),
        }
        told |= {name: field.metadata[name] for name in _PASSED_ON if name in field.metadata}
        if isinstance(default, bool):
            told["action"] = argparse.BooleanOptionalAction
        elif isinstance(default, tuple):
            told |= {"action": "append", "default": []}
        else:
            told["type"] = type(default) if isinstance(default, int | float | Path) else str
            if "least" in field.metadata:
                told["type"] = partial(_at_least, told["type"], field.metadata["least"])
            told["help"] += f" (default: {default})"
        parser.add_argument(flag, **told)


def _at_least(kind: Callable[[str], Any], least: float, text: str) -> Any:
    """The number that a text says, which argparse refuses by the flag's name where it says none or less."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not value >= least:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from {least} on")
    return value
