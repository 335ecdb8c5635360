"""`speechrows train`: train.py, run as it is or copied to be changed. The flags of `speechrows respond`."""

import argparse
import os
import runpy
import sys
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from speechrows.errors import UsageError
from speechrows.flags import add_flags
from speechrows.flags import flag
from speechrows.flags import path
from speechrows.storage.shipped import shipped

CODEC = "kyutai/mimi"  # what decodes the codes of speech


def run(flags: list[str]) -> int:
    """Run train.py with its flags, as `python train.py` does: it ends the process, with its exit code.

    Raises:
        UsageError: what it needs is not installed.
    """
    _check_installed("train", ("accelerate", "jiwer", "peft", "torch"), "train")
    # Read when torch is imported: else its threads, waiting for each other, keep busy cores from working.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.argv[1:] = flags
    runpy.run_path(str(shipped("train.py")), run_name="__main__")
    return 0


def respond(options: argparse.Namespace, open_voice: Callable[[str], Any]) -> int:
    """Run `speechrows respond`; `open_voice` opens the decoder of a codec's codes by its model's name."""
    _check_installed("respond", ("torch",), "load")
    for clip in options.clips:  # before torch is imported, which takes seconds
        if not clip.is_file():
            raise UsageError(f"{clip}: can not be read (no such file); expected a file of speech")
    _check_is_there(options.model)
    from speechrows.model.respond import run  # noqa: PLC0415

    return run(options, open_voice)


def conversations(folder: Path, open_voice: Callable[[str], Any]) -> Callable[[], Any]:
    """What begins a conversation with a model, for the preview."""
    _check_installed("preview --model", ("torch",), "load")
    _check_is_there(folder)  # before torch is imported
    from speechrows.model.respond import Talking  # noqa: PLC0415

    return Talking.open(folder, open_voice).begin


def _check_is_there(model: Path) -> None:
    """Check that a model is here, where it can not be on the Hub.

    Raises:
        UsageError: it is not.
    """
    from speechrows.storage.filesystem import absent_here  # noqa: PLC0415  # --help does without
    from speechrows.storage.filesystem import is_place_here  # noqa: PLC0415

    name = str(model)
    if not model.exists() and ("/" not in name or is_place_here(name)):
        raise UsageError(f"{name}: {absent_here(name)}; expected a run of train.py, or a saved model")


def _check_installed(command: str, packages: Sequence[str], extra: str) -> None:
    """Check that the packages that a command needs, of an extra, are installed.

    Raises:
        UsageError: one is not.
    """
    for name in packages:
        if find_spec(name) is None:
            raise UsageError(f"found no {name}; {command} needs: pip install 'speechrows[{extra}]'")


def add_respond_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `speechrows respond`."""
    parser.add_argument(
        "model", type=path, metavar="RUN", help="the --output-dir of train.py, or a saved model"
    )
    parser.add_argument("clips", type=path, nargs="+", metavar="CLIP", help="the turns of a conversation")
    parser.add_argument("--task", metavar="NAME", help="what to do, where it learnt several tasks")
    add_flags(parser, fields(_Answering))
    parser.add_argument("--out", type=path, metavar="WAV", help="write the answers' speech there")
    parser.add_argument(
        "--codec", default=CODEC, metavar="MODEL", help="what decodes it (default: %(default)s)"
    )


@dataclass(frozen=True, kw_only=True)
class _Answering:
    """How answers are generated: each field is a flag."""

    max_tokens: int = flag(256, "of an answer", least=1)
    temperature: float = flag(0.0, "0: the likeliest tokens; above, they are drawn", least=0)
    top_p: float = flag(1.0, "drawn from the likeliest that make up this share", least=0)
    seed: int = flag(0, "of what is drawn", least=0)
    device: str = flag("cpu", "where the model runs: cpu, cuda, cuda:1…")


def copy(folder: Path) -> str:
    """Copy train.py to a folder; say how it is run there.

    Raises:
        UsageError: the folder has a train.py, or can not be written to.
    """
    place = folder / "train.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with place.open("x", encoding="utf-8") as file:
            file.write(shipped("train.py").read_text("utf-8"))
    except FileExistsError as error:
        raise UsageError(f"--copy-to {folder}: found {error.filename} there; give another folder") from error
    except OSError as error:
        raise UsageError(f"--copy-to {folder}: can not be written to ({error.strerror})") from error
    return f"{place}: change it, then run: python {place} --data …, or accelerate launch {place} …"
