"""`speechrows preview`: the page is served until Ctrl-C ends it."""

import argparse
from collections.abc import Callable
from threading import Event
from typing import Any

from speechrows.errors import printable
from speechrows.folder.rows_folder import RowsFolder


def run(options: argparse.Namespace, open_talk: Callable[[], Any] | None) -> int:
    """Serve the page of a folder, with a model to talk to where `open_talk` opens one; the exit code."""
    RowsFolder.open(options.folder)  # before gradio is imported, which takes seconds
    from speechrows.preview.app import launch  # noqa: PLC0415

    where: dict[str, Any] = {"port": options.port, "only_here": True, "open_browser": not options.no_open}
    page = launch(options.folder, **where, wait=False, open_talk=open_talk)
    print(printable(f"{options.folder}: {page.local_url} (Ctrl-C ends it)"), flush=True)
    try:
        Event().wait()
    finally:
        page.close(verbose=False)
    return 0
