"""Serve the page of a built folder.

On this machine it is served to loopback alone. As a Space it is the whole of the Space's app.py:

    import os
    from speechrows.preview.app import launch

    launch(os.environ["DATASET"])  # org/name; the Space says where it listens

with `speechrows[preview]` in its requirements.txt, and DATASET among its variables.
"""

import os
import threading
from pathlib import Path
from typing import Any

from speechrows.errors import UsageError

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
try:
    import gradio as gr
    from gradio.themes import Base
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from speechrows.preview.guard import NoStrangers
    from speechrows.preview.guard import OnlyFromHere
    from speechrows.preview.page import make_page
    from speechrows.preview.rows import Library
    from speechrows.preview.sound import routes
except ImportError as error:
    raise UsageError(f"found {error}; preview needs: pip install 'speechrows[preview]'") from error

LOOPBACK = "127.0.0.1"
_HERE = Path(__file__).parent


def launch(
    address: str,
    *,
    port: int | None = None,
    only_here: bool = False,
    open_browser: bool = False,
    wait: bool = True,
) -> gr.Blocks:
    """Serve the page of a built folder or a Hub dataset `org/name`, until interrupted.

    `only_here` binds it to loopback. Else GRADIO_SERVER_NAME decides, as a Space sets it; loopback by
    default. Without `wait` the page is returned while it is served: its `close` ends it.

    Raises:
        UsageError: nothing that speechrows built is there, or the port is taken.
    """
    library = Library(address)
    threading.Thread(target=lambda: library.tokenizer, daemon=True).start()  # what takes longest to open
    page = make_page(library)
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])
    guards = [hosts, Middleware(OnlyFromHere)] if only_here else []
    guards.append(Middleware(NoStrangers))
    try:
        page.launch(
            server_name=LOOPBACK if only_here else None,
            server_port=port,
            inbrowser=open_browser,
            app_kwargs={"routes": routes(library), "middleware": guards},
            **_looks(),
            run_history=False,
            share=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UsageError(f"--port {port}: is taken, or not to be had; give another, or none") from error
    if wait:
        page.block_thread()
    return page


def _looks() -> dict[str, Any]:
    """Return theme, styles and scripts: Gradio's plainest theme, in fonts that every machine has."""
    sans = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
    mono = ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
    return {
        "theme": Base(primary_hue="indigo", neutral_hue="stone", font=sans, font_mono=mono),
        "css": (_HERE / "page.css").read_text("utf-8"),
        "head": f"<script>{(_HERE / 'page.js').read_text('utf-8')}</script>",
        "footer_links": [],
    }
