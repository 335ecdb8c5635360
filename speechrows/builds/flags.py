"""The flags of `speechrows build` that every builder has."""

import argparse

from speechrows.flags import BUILDERS
from speechrows.flags import path_or_address
from speechrows.rows.ledger import MAX_SKIPPED
from speechrows.workers.engines import add_engine_flags


def add_build_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `speechrows build`, but a builder's own."""
    parser.add_argument("builder", metavar="BUILDER", help=f"{', '.join(BUILDERS)}, or a .py file")
    parser.add_argument("config", metavar="CONFIG", help="which rows of the builder, such as stage_2")
    parser.add_argument("--data-dir", metavar="DIR|hf://…", help="the corpus; default: its Hub repository")
    parser.add_argument(
        "--out",
        type=path_or_address,
        required=True,
        metavar="DIR|s3://…",
        help="the folder to build: here, or in a store (s3://, gs://, hf://datasets/org/name)",
    )
    parser.add_argument(
        "--scratch",
        type=float,
        metavar="GB",
        help="of a folder in a store, most of it that may lie here at once (default: a shard a process)",
    )
    add_engine_flags(parser)
    parser.add_argument(
        "--shards",
        metavar="A-B",
        help="build only these shards, from 0, beside other runs that build others; then run it without",
    )
    parser.add_argument(
        "--max-skipped",
        type=float,
        default=MAX_SKIPPED,
        metavar="F",
        help="largest share of faulty items, from 0 to 1 (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the task's rows in DIR")
