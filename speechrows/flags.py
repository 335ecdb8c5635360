"""A dataclass' fields as flags of a command line: `audio_tokens` is `--audio-tokens`."""

import argparse
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import MISSING
from dataclasses import Field
from dataclasses import field
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any
from typing import TypeVar
from typing import cast

from speechrows.console import Parser

Config = TypeVar("Config")

# The corpus modules that are installed with this package: what BUILDER may be by name.
BUILDERS = (
    "deepdialogue_ttt",
    "multidialog_ttt",
    "instructs2s_ttt",
    "dailytalk_usdm",
    "omni_tasks",
    "audio_table",
    "chat_json",
    "lhotse_cuts",
    "nemo_manifest",
)


def flag(
    default: Any,
    text: str,
    *,
    name: str | None = None,
    choices: Sequence[str] | None = None,
    least: float | None = None,
    required: bool = False,
    kind: type[int] | type[float] | None = None,
) -> Any:
    """A field of a dataclass that is a flag, with its help.

    The flag is called `name`, by default as the field; `least` is the smallest number that is accepted.
    `kind` is that of a number whose default is None.
    """
    options = {"help": text, "name": name, "choices": choices, "least": least, "required": required}
    return field(default=default, metadata={**options, "kind": kind})


def add_flags(parser: argparse.ArgumentParser, fields: Iterable[Field[Any]]) -> None:
    """Add a flag for each field that `flag` made, of the type of its default.

    A field that is a tuple may be given repeatedly; one that is true or false has a `--no-…` too.
    """
    for entry in fields:
        options = entry.metadata
        default: Any = None if entry.default is MISSING else entry.default
        kwargs: dict[str, Any] = {"dest": entry.name, "default": default, "help": options.get("help", "")}
        kwargs |= {key: options[key] for key in ("choices", "required") if options.get(key)}
        if isinstance(default, bool):
            kwargs["action"] = argparse.BooleanOptionalAction
            # Python 3.11 and 3.12 add a default that they see to the help, later versions do not.
            kwargs |= {"default": argparse.SUPPRESS}
        elif isinstance(default, tuple):
            kwargs |= {"action": "append", "default": []}
        else:
            kwargs["type"] = type(default) if isinstance(default, int | float | Path) else str
            kwargs["type"] = options.get("kind") or kwargs["type"]
            if options.get("least") is not None:
                kwargs["type"] = partial(_at_least, kwargs["type"], options["least"])
        if not options.get("required"):
            kwargs["help"] += f" (default: {_word(default)})"
        parser.add_argument(options.get("name") or f"--{entry.name.replace('_', '-')}", **kwargs)
        parser.set_defaults(**{entry.name: default if not isinstance(default, tuple) else []})


def parsed(kind: type[Config], description: str | None, arguments: Sequence[str] | None) -> Config:
    """A dataclass of flags, as a command line gives them; by default this process' own."""
    parser = Parser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    add_flags(parser, fields(cast(Any, kind)))
    values = vars(parser.parse_args(arguments)).items()
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values})


def path(text: str) -> Path:
    """Parse a path; its ~ is the home folder: shells leave that of `--out=~/rows` as it is."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"found {text}, an address; expected a path on this machine")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"found {text!r}: {error}") from error


def path_or_address(text: str) -> str:
    """Parse a path, or the address of a folder in a store, which has `://`."""
    text = text.removeprefix("file://")
    return text if "://" in text else str(path(text))


def _word(default: Any) -> str:
    """A default for a person: what is empty is none, what is false is no."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return "none" if default in (None, "", ()) else str(default)


def _at_least(kind: Callable[[str], Any], least: float, text: str) -> Any:
    """Parse a number of at least `least`; argparse names the flag of one that is refused."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not least <= value < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from {least} on")
    return value
