"""The flags of `speechrows validate`, and what it prints."""

import argparse
import json

from speechrows.errors import printable


def add_validate_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `speechrows validate`, besides its folder."""
    parser.add_argument("--num-proc", type=int, default=1, metavar="N", help="processes (default: 1)")
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

    report = validate(options.folder, allow=options.allow, num_proc=options.num_proc)
    print(printable(json.dumps(report.to_json(), indent=1) if options.json else report))
    return 0 if report.ok else 1
