"""The commands of `speechrows`: a table of their names, flags, and what runs them."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechrows.errors import printable
from speechrows.flags import BUILDERS
from speechrows.flags import path

_MORE_FLAGS = "Configs and more flags are a builder's own: see `speechrows build BUILDER --help`."


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name, its help, its flags, and the function that runs it and returns the exit code.

    The function imports what it needs when it is called, so that --help is fast. `stopped` is what is printed
    where Ctrl-C ends it: what is kept, and how to go on.
    """

    name: str
    help: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    epilog: str | None = None
    stopped: str = "stopped"


def _build_flags(parser: argparse.ArgumentParser) -> None:
    from speechrows.builds.flags import add_build_flags

    add_build_flags(parser)


def _build(options: argparse.Namespace) -> int:
    from speechrows.builder.command import run

    return run(options)


def _inspect_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR|hf://…", help="a folder of speech and text, of any kind")


def _inspect(options: argparse.Namespace) -> int:
    from speechrows.builder.recognise import inspect

    print(printable(inspect(options.path)))
    return 0


def _generate_flags(parser: argparse.ArgumentParser) -> None:
    from speechrows.generate.command import add_generate_flags

    add_generate_flags(parser)


def _generate(options: argparse.Namespace) -> int:
    from speechrows.generate.command import run

    return run(options)


def _folder_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER|org/name", help="a built folder, or a dataset on the Hub")


def _validate_flags(parser: argparse.ArgumentParser) -> None:
    from speechrows.validation.command import add_validate_flags

    _folder_flag(parser)
    add_validate_flags(parser)


def _validate(options: argparse.Namespace) -> int:
    from speechrows.validation.command import run

    return run(options)


def _stats_flags(parser: argparse.ArgumentParser) -> None:
    of = "a built folder, here or on the Hub, or a mix of several"
    parser.add_argument("folder", metavar="FOLDER|org/name|mix.yaml", help=of)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--context", type=int, metavar="N", help="print how full sequences of N tokens are")
    parser.add_argument(
        "--mode", choices=("lanes", "pack"), default="lanes", help="of --context (default: %(default)s)"
    )


def _stats(options: argparse.Namespace) -> int:
    if options.context is not None or options.folder.endswith((".yaml", ".yml")):
        from speechrows.loader.command import run

        return run(options)
    from speechrows.folder import stats

    sums = stats.stats(options.folder)
    text = json.dumps(stats.to_json(sums), indent=1) if options.json else stats.to_text(options.folder, sums)
    print(printable(text))
    return 0


def _show_flags(parser: argparse.ArgumentParser) -> None:
    _folder_flag(parser)
    parser.add_argument("row_id", nargs="?", metavar="ROW_ID", help="default: the first row")


def _show(options: argparse.Namespace) -> int:
    from speechrows.folder.show import show

    print(show(options.folder, options.row_id, colour=sys.stdout.isatty()))
    return 0


def _screen_flags(parser: argparse.ArgumentParser) -> None:
    from speechrows.screening.command import add_screen_flags

    add_screen_flags(parser)


def _screen(options: argparse.Namespace) -> int:
    from speechrows.screening.command import run

    return run(options)


def _preview_flags(parser: argparse.ArgumentParser) -> None:
    _folder_flag(parser)
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    parser.add_argument("--no-open", action="store_true", help="print the address, open no browser")
    parser.add_argument("--model", type=path, metavar="RUN", help="a run of train.py, to talk with")


def _preview(options: argparse.Namespace) -> int:
    from speechrows.model.command import conversations
    from speechrows.preview.command import run

    return run(options, options.model and conversations(options.model, _open_voice))


def _train_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--copy-to", type=path, required=True, metavar="DIR", help="write train.py there")


def _train(options: argparse.Namespace) -> int:
    from speechrows.model.command import copy

    print(printable(copy(options.copy_to)))
    return 0


def _respond_flags(parser: argparse.ArgumentParser) -> None:
    from speechrows.model.command import add_respond_flags

    add_respond_flags(parser)


def _respond(options: argparse.Namespace) -> int:
    from speechrows.model.command import respond

    return respond(options, _open_voice)


def _open_voice(name: str) -> Callable[..., Any]:
    from speechrows.generate.mimi import MimiDecoder

    return MimiDecoder(name)


def _export_flags(parser: argparse.ArgumentParser) -> None:
    from speechrows.interop.command import add_export_flags

    add_export_flags(parser)


def _export(options: argparse.Namespace) -> int:
    from speechrows.interop.command import run

    return run(options)


def _publish_flags(parser: argparse.ArgumentParser) -> None:
    from speechrows.hub.command import add_publish_flags

    add_publish_flags(parser)


def _publish(options: argparse.Namespace) -> int:
    from speechrows.hub.command import run

    return run(options)


def _check_viewer(options: argparse.Namespace) -> int:
    from speechrows.hub.viewer.check import check_viewer

    report = check_viewer(options.folder)
    print(printable(report))
    return 0 if report.ok else 1


def _infos_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=path, default=Path("dataset_infos.json"), metavar="FILE", help="default: %(default)s"
    )


def _infos(options: argparse.Namespace) -> int:
    from speechrows.builder.infos import write_infos

    print(printable(f"{options.out}: {write_infos(BUILDERS, options.out)} configs"))
    return 0


COMMANDS = (
    Command("inspect", "say what a folder holds, and the commands that build it", _inspect_flags, _inspect),
    Command(
        "build",
        "build rows from a corpus",
        _build_flags,
        _build,
        _MORE_FLAGS,
        "stopped. Shards that were written are kept: the same command goes on",
    ),
    Command("validate", "check a built folder, row by row", _validate_flags, _validate),
    Command("stats", "print hours, turns, tokens, and what each stage adds", _stats_flags, _stats),
    Command("show", "print a row with its label mask", _show_flags, _show),
    Command(
        "screen",
        "score what may be wrong with each row's clip and text",
        _screen_flags,
        _screen,
        stopped="stopped. Shards that were screened are kept: the same command goes on",
    ),
    Command("preview", "listen to rows and look at them in a browser", _preview_flags, _preview),
    Command(
        "generate",
        "make answers, codes, units or traits from a corpus' clips, to be joined by build --with",
        _generate_flags,
        _generate,
        stopped="stopped. What was made is kept: the same command goes on",
    ),
    Command(
        "train", "train a model on rows: runs train.py, or copies it to be changed", _train_flags, _train
    ),
    Command("respond", "let a trained model hear clips, and answer them", _respond_flags, _respond),
    Command(
        "export",
        "write a built folder in another tool's format",
        _export_flags,
        _export,
        stopped="stopped. Parts that were written are kept: the same command goes on",
    ),
    Command(
        "publish",
        "upload a built folder as a Hub dataset",
        _publish_flags,
        _publish,
        stopped="stopped. What was uploaded is kept, and shown by nothing yet: the same command goes on",
    ),
    Command("check-viewer", "check that the Hub's viewer can show a dataset", _folder_flag, _check_viewer),
    Command("infos", "write dataset_infos.json: features, licence, citation", _infos_flags, _infos),
)


def stopped(name: str = "") -> str:
    """What is printed where Ctrl-C ends a command, or what is none."""
    return next((command.stopped for command in COMMANDS if command.name == name), "stopped")
