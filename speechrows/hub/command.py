"""The flags of `speechrows publish`, and what it prints."""

import argparse

from speechrows.console import tell_at_once
from speechrows.errors import printable
from speechrows.flags import path


def add_publish_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `speechrows publish`."""
    parser.add_argument("folder", type=path, metavar="FOLDER", help="a built folder")
    parser.add_argument("repository", metavar="org/name", help="the dataset, created where there is none")
    parser.add_argument("--private", action="store_true", help="create it for its owners alone")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--revision", metavar="BRANCH", help="created where there is none (default: main)")
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded and deleted")


def run(options: argparse.Namespace) -> int:
    """Publish a folder and print what changed; return the exit code."""
    from speechrows.hub.publish.publisher import Target  # noqa: PLC0415  # --help does without
    from speechrows.hub.publish.publisher import open_publisher  # noqa: PLC0415

    target = Target(
        repo_id=options.repository,
        private=options.private,
        create_pr=options.create_pr,
        revision=options.revision,
    )
    with open_publisher(options.folder, target, tell_at_once) as publisher:
        print(printable(publisher.dry_run() if options.dry_run else publisher.changes()))
        if not options.dry_run:
            print(printable(publisher.publish()))
    return 0
