"""Serve the page of a built folder.

On this machine it is served to loopback alone. As a Space it is the whole of the Space's app.py:

    import os
    from speechrows.preview.app import launch

    launch(os.environ["DATASET"])  # org/name; the Space says where it listens

with `speechrows[preview]` in its requirements.txt, and DATASET among its variables.
"""

import os
import sys
from typing import TYPE_CHECKING

from speechrows.errors import UsageError
from speechrows.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    import gradio as gr

    from speechrows.preview.talk import Talk

_PORTS = 1 << 16
_EXTRA = "preview needs: pip install 'speechrows[preview]'"


def launch(
    address: str,
    *,
    port: int | None = None,
    only_here: bool = False,
    open_browser: bool = False,
    wait: bool = True,
    open_talk: "Callable[[], Talk] | None" = None,
) -> "gr.Blocks":
    """Serve the page of a built folder or a Hub dataset `org/name`, until interrupted.

    `only_here` binds it to loopback. Else GRADIO_SERVER_NAME decides, as a Space sets it; loopback by
    default. Without `wait` the page is returned while it is served: its `close` ends it.

    With `open_talk`, which begins a conversation with a model, it has a tab to talk in, and takes clips.

    Raises:
        UsageError: nothing that speechrows built is there, or the port is taken.
    """
    if port is not None and not 0 < port < _PORTS:  # before gradio is imported
        raise UsageError(f"--port: found {port}, expected 1 to {_PORTS - 1}")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
    # Gradio takes seconds to import, and half a minute the first time: that it begins is said before.
    sys.stderr.write(printable(f"opening {address} …") + "\n")
    try:
        from speechrows.preview.server import serve  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"found {error}; {_EXTRA}") from error
    return serve(
        address, port=port, only_here=only_here, open_browser=open_browser, wait=wait, open_talk=open_talk
    )
