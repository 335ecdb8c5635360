"""The flags of `speechrows validate`, and what it prints."""

import argparse
import json

from speechrows.console import tell_on_stderr
from speechrows.errors import printable
from speechrows.workers.engines import add_engine_flags
from speechrows.workers.engines import engine_of


def add_validate_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `speechrows validate`, besides its folder."""
    add_engine_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=("silence", "clipping"),
        help="report it without failing; repeatable",
    )


def run(options: argparse.Namespace) -> int:
    """Validate a folder and print the report; return the exit code."""
    from speechrows.validation.validate import validate  # noqa: PLC0415  # --help does without

    with engine_of(options, tell_on_stderr) as engine:
        report = validate(options.folder, allow=options.allow, engine=engine)
    print(printable(json.dumps(report.to_json(), indent=1) if options.json else report))
    return 0 if report.ok else 1
