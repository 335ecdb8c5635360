"""Serves the clips that the page plays, as published, over HTTP: any range of their bytes.

A clip is named by config, split, the number of a row and a column: no path comes from outside.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlencode

import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.responses import Response
from starlette.routing import Route

from speechrows.errors import SpeechRowsError
from speechrows.errors import UsageError
from speechrows.preview import decode
from speechrows.preview.rows import Library
from speechrows.preview.rows import View
from speechrows.preview.rows import media_type
from speechrows.rows.schema import AUDIO_COLUMNS

_CLIP, _DECODED = "speechrows/clip", "speechrows/decoded"


def clip_url(view: View, row: int, column: str = "audio") -> str:
    """Return the address of a row's clip; relative, so that the page may be served under any path."""
    return f"{_CLIP}?{_query(view, row)}&column={column}"


def decoded_url(view: View, row: int) -> str:
    """Return the address of a row's codes, decoded to sound."""
    return f"{_DECODED}?{_query(view, row)}"


def _query(view: View, row: int) -> str:
    return urlencode({"config": view.index.config, "split": view.index.split, "row": row})


def routes(library: Library) -> list[Route]:
    """Return the routes that serve clips and decoded codes."""

    def clip(request: Request) -> Response:
        view, row = _row_of(library, request)
        column = request.query_params.get("column", "audio")
        if column not in AUDIO_COLUMNS:
            raise UsageError(f"no clip column {column!r}; expected one of {', '.join(AUDIO_COLUMNS)}")
        return _ranged(library.clip(view, row, column), request)

    @lru_cache(8)
    def sound_of(view: View, row: int) -> bytes:
        (cells,) = library.rows(view, range(row, row + 1))
        reason = decode.why_not(cells["codec"]) if cells["codec"] else "the row has no codes"
        if reason:
            raise UsageError(reason)
        return decode.decode(cells["codec"], np.array(cells["codec_targets"], np.int16))

    def decoded(request: Request) -> Response:
        return _ranged(sound_of(*_row_of(library, request)), request)

    return [Route(f"/{_CLIP}", _guarded(clip)), Route(f"/{_DECODED}", _guarded(decoded))]


def _guarded(serve: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Wrap a route: errors become plain text, which no browser takes for a page."""

    def respond(request: Request) -> Response:
        try:
            return serve(request)
        except SpeechRowsError as error:
            return PlainTextResponse(str(error), 404)
        except OSError as error:  # of a store that does not answer
            return PlainTextResponse(str(error), 502)

    return respond


def _row_of(library: Library, request: Request) -> tuple[View, int]:
    """Return the row that a request names."""
    query = request.query_params
    view = library.view(query.get("config", ""), query.get("split", ""))
    number = query.get("row", "")
    if not re.fullmatch(r"[0-9]{1,12}", number) or int(number) >= view.stop:
        raise UsageError(f"no row {number!r}; expected a number below {view.stop}")
    return view, int(number)


def _ranged(data: bytes, request: Request) -> Response:
    """Respond with all of the bytes, or with the range that a browser asks for when it seeks."""
    if not data:
        return PlainTextResponse("the row has no such clip", 404)
    headers = {"Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    kind = media_type(data)
    wanted = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", request.headers.get("range", ""))
    if wanted is None:
        return Response(data, media_type=kind, headers=headers)
    start, stop = int(wanted[1]), min(int(wanted[2] or len(data)) + 1, len(data))
    if start >= stop:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Response(data[start:stop], 206, media_type=kind, headers=headers)
