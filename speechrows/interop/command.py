"""`speechrows export FORMAT FOLDER --out DIR`: flags, and running it."""

import argparse
from dataclasses import fields

from speechrows.errors import printable
from speechrows.flags import add_flags
from speechrows.flags import path
from speechrows.interop.exports import EXPORTS
from speechrows.interop.exports import export


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Add the formats, each with its own flags."""
    formats = parser.add_subparsers(required=True, metavar="FORMAT", dest="export")
    for name, entry in EXPORTS.items():
        added = formats.add_parser(name, help=entry.help)
        added.add_argument(
            "folder", metavar="FOLDER|org/name", help="a built folder, or a dataset on the Hub"
        )
        added.add_argument("--out", type=path, required=True, metavar="DIR", help="the folder for new files")
        add_flags(added, fields(entry.options))


def run(options: argparse.Namespace) -> int:
    """Write the export, and print what was written; the exit code."""
    kind = EXPORTS[options.export].options
    flags = kind(**{entry.name: getattr(options, entry.name) for entry in fields(kind)})
    for line in export(options.export, options.folder, options.out, flags):
        print(printable(line))
    return 0
