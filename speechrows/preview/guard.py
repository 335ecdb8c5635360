"""What a page reaches, whatever it is made to show: its own server; and who reaches that: the page alone."""

import os
import re

from starlette.datastructures import Headers
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp
from starlette.types import Message
from starlette.types import Receive
from starlette.types import Scope
from starlette.types import Send

# Gradio's own page compiles templates, and writes styles, as it runs.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self' blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)


class OnlyFromHere:
    """Middleware: the browser loads from this server alone, and shows this page inside no other."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, send_guarded)


# What the page posts. Gradio has more: uploads, above all, which nothing here takes.
_POSTS = re.compile(r".*/gradio_api/(queue/join|cancel|reset|run/[^/]+|call/[^/]+)/?")
# What Gradio would get from other servers, or from its folder of uploads.
_FETCHES = re.compile(r".*/gradio_api/(file|proxy|stream|upload|deep_link|component_server)([=/_].*)?")


class NoStrangers:
    """Middleware: no page of another server may ask this one, and nobody may upload.

    Whatever a browser has open can send requests here; it says of each which page sent it. With `uploads`,
    the folder that Gradio writes them to, this page alone may upload, and gets what lies in there.
    """

    def __init__(self, app: ASGIApp, uploads: str | None = None) -> None:
        self._app = app
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and (reason := _refusal(scope, self._uploads)):
            await PlainTextResponse(reason, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _refusal(scope: Scope, uploads: str | None) -> str | None:
    headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
    names = {headers.get("host"), headers.get("x-forwarded-host"), os.environ.get("SPACE_HOST")}
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] not in names - {None, ""}:
        return f"a request of {origin}; expected one of this page"
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
    if site not in ("same-origin", "none") and not (mode == "navigate" and method == "GET"):
        return "a request of another server's page; expected one of this page"
    if uploads is not None and _is_of_uploads(method, path, uploads, has_origin=origin is not None):
        return None
    is_known = _POSTS.fullmatch(path) if method == "POST" else method in ("GET", "HEAD", "OPTIONS")
    if not is_known or _FETCHES.fullmatch(path):
        return f"{method} {path}: nothing of the kind is served here"
    return None


def _is_of_uploads(method: str, path: str, uploads: str, *, has_origin: bool) -> bool:
    """Whether a request uploads, which a browser says the page of, or gets what was uploaded."""
    _, is_below, request = path.partition("/gradio_api/")
    if not is_below:
        return False
    if method == "POST":
        return request.rstrip("/") == "upload" and has_origin
    is_own = request.startswith(f"file={uploads}/") and ".." not in request
    return method in ("GET", "HEAD") and (is_own or request == "upload_progress")
