"""The flags of `speechrows screen`."""

import argparse
import os

from speechrows.console import tell_on_stderr
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.flags import path
from speechrows.workers.engines import add_engine_flags
from speechrows.workers.engines import engine_of


def add_screen_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `speechrows screen`."""
    add = parser.add_argument
    add("folder", metavar="FOLDER|org/name", help="a built folder, or a dataset on the Hub")
    add("--out", type=path, metavar="FILE.parquet", help="where scores go (default: into the folder)")
    add(
        "--language",
        action="append",
        default=[],
        metavar="CODE",
        help="of the texts, such as en; repeatable (default: the card's)",
    )
    add(
        "--asr",
        type=os.path.expanduser,
        metavar="MODEL",
        help="hear clips, for their word error rate: a model of faster-whisper, a folder or Hub repository",
    )
    add("--overwrite", action="store_true", help="make all anew, and keep no score that is there")
    add_engine_flags(parser)
    add("--worst", type=int, default=20, metavar="N", help="rows to print, the worst first (default: 20)")


def run(options: argparse.Namespace) -> int:
    """Screen a folder and print the report; return the exit code."""
    from speechrows.screening.screen import screen  # noqa: PLC0415  # --help does without

    if options.worst < 0:
        raise UsageError(f"--worst: found {options.worst}, expected 0 or more")
    asr = None
    if options.asr is not None:
        from speechrows.conversations.hearing import model_folder  # noqa: PLC0415  # an extra

        asr = model_folder(options.asr, "--asr")
    with engine_of(options, tell_on_stderr) as engine:
        report = screen(
            options.folder,
            out=options.out,
            languages=options.language,
            asr=asr,
            engine=engine,
            num_worst=options.worst,
            overwrite=options.overwrite,
        )
    print(printable(report))
    return 0
