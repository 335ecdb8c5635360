"""The server of the page: what it serves, to whom, and in which looks."""

import threading
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Base
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from speechrows.errors import UsageError
from speechrows.preview.guard import NoStrangers
from speechrows.preview.guard import OnlyFromHere
from speechrows.preview.page import make_page
from speechrows.preview.rows import Library
from speechrows.preview.sound import routes

LOOPBACK = "127.0.0.1"
_HERE = Path(__file__).parent


def serve(address: str, *, port: int | None, only_here: bool, open_browser: bool, wait: bool) -> gr.Blocks:
    """Serve a page as `launch` of app.py says."""
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
