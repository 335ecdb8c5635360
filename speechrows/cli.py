"""The command line: `speechrows build | generate | validate | stats | show | publish | …`.

Exit codes: 0 done, 1 the data falls short (the table says where) or the machine does (no room, a
worker that died), 2 the call was wrong, 130 Ctrl-C ended it. Everything is imported where it is used:
whoever presses Ctrl-C at once is answered in a line too.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechrows.console import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        from speechrows import console
        from speechrows.commands import stopped

        return console.run(lambda: _run(arguments), stopped(*arguments[:1]))
    except KeyboardInterrupt:  # before console could take it
        print("speechrows: stopped", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    import os

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it advises to install torch: no need
    if arguments[:1] == ["train"] and not any(flag.startswith("--copy-to") for flag in arguments):
        from speechrows.model.command import run

        return run(arguments[1:])  # all of them are train.py's own
    if arguments[:1] == ["build"] and (folder := _folder_alone(arguments[1:])):
        arguments = ["inspect", folder]
    options = _parser(arguments).parse_args(arguments)
    return options.run(options)


def _folder_alone(arguments: list[str]) -> str | None:
    """The --data-dir of a build without BUILDER: it is looked at, and nothing is built."""
    import argparse

    from speechrows.flags import BUILDERS

    is_told = any(word in BUILDERS or word.endswith(".py") for word in arguments)  # if behind the flags
    if is_told or not arguments or not arguments[0].startswith("-"):
        return None
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data-dir")
    return parser.parse_known_args(arguments)[0].data_dir


def _parser(arguments: list[str]) -> "Parser":
    """The parser of a command line; a builder's own flags must be known before the rest is parsed."""
    import speechrows
    from speechrows.commands import COMMANDS
    from speechrows.console import Parser

    parser = Parser(prog="speechrows", description="Speech corpora in, training rows out.")
    parser.add_argument("--version", action="version", version=f"speechrows {speechrows.__version__}")
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = parsers.add_parser(command.name, help=command.help, epilog=command.epilog)
        command.add_flags(added)
        added.set_defaults(run=command.run)
        if command.name == "build" and arguments[:1] == ["build"] and len(arguments) > 1:
            _add_builder_flags(added, arguments[1])
    return parser


def _add_builder_flags(parser: "Parser", builder: str) -> None:
    from speechrows.errors import UsageError

    if builder in ("-h", "--help"):
        return
    if builder.startswith("-"):
        raise UsageError(f"speechrows build: found {builder} first, expected BUILDER CONFIG, then flags")
    from speechrows.builder.command import add_builder_flags

    add_builder_flags(parser, builder)


if __name__ == "__main__":
    sys.exit(main())
