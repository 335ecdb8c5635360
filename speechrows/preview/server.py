"""The server of the page: what it serves, to whom, and in which looks."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Base
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from speechrows.errors import UsageError
from speechrows.preview.guard import NoStrangers
from speechrows.preview.guard import OnlyFromHere
from speechrows.preview.page import make_page
from speechrows.preview.rows import Library
from speechrows.preview.sound import routes
from speechrows.preview.talk import Talk

LOOPBACK = "127.0.0.1"
MAX_BYTES = 64 << 20  # of a turn that a visitor gives
_HERE = Path(__file__).parent


def serve(
    address: str,
    *,
    port: int | None,
    only_here: bool,
    open_browser: bool,
    wait: bool,
    open_talk: Callable[[], Talk] | None = None,
) -> gr.Blocks:
    """Serve a page as `launch` of app.py says."""
    library = Library(address)
    threading.Thread(target=lambda: library.tokenizer, daemon=True).start()  # what takes longest to open
    page = make_page(library, open_talk)
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])
    guards = [hosts, Middleware(OnlyFromHere)] if only_here else []
    guards.append(Middleware(NoStrangers, uploads=get_upload_folder() if open_talk else None))
    try:
        page.launch(
            server_name=LOOPBACK if only_here else None,
            server_port=port,
            inbrowser=open_browser,
            app_kwargs={"routes": routes(library), "middleware": guards},
            **_looks(),
            max_file_size=MAX_BYTES if open_talk else None,
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
