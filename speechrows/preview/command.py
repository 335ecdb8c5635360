"""`speechrows preview`: the page is served until Ctrl-C ends it."""

import argparse
from collections.abc import Callable
from threading import Event
from typing import Any

from speechrows.errors import printable
from speechrows.folder.rows_folder import RowsFolder
from speechrows.model.command import conversations


def run(options: argparse.Namespace, open_voice: Callable[..., Any]) -> int:
    """Serve the page of a folder; the exit code."""
    RowsFolder.open(options.folder)  # before gradio is imported, which takes seconds
    from speechrows.preview.app import launch  # noqa: PLC0415

    talk = options.model and conversations(options.model, open_voice)
    where: dict[str, Any] = {"port": options.port, "only_here": True, "open_browser": not options.no_open}
    page = launch(options.folder, **where, wait=False, open_talk=talk)
    print(printable(f"{options.folder}: {page.local_url} (Ctrl-C ends it)"), flush=True)
    try:
        Event().wait()
    finally:
        page.close(verbose=False)
    return 0
