"""Markup of a conversation, of a turn and of search results.

Jinja escapes every value that stands in a template: text of a corpus never becomes markup.
"""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from jinja2 import FileSystemLoader
from jinja2 import StrictUndefined

from speechrows.audio import decode as decode_audio
from speechrows.codec import CODECS
from speechrows.errors import SpeechRowsError
from speechrows.preview import decode
from speechrows.preview import pictures
from speechrows.preview.duplex import duplex
from speechrows.preview.find import Hits
from speechrows.preview.rows import Library
from speechrows.preview.rows import View
from speechrows.preview.rows import audio_name
from speechrows.preview.sound import clip_url
from speechrows.preview.sound import decoded_url
from speechrows.preview.tokens import KINDS
from speechrows.preview.tokens import MAX_SPANS
from speechrows.preview.tokens import counts
from speechrows.preview.tokens import spans
from speechrows.rows.schema import AUDIO_COLUMNS
from speechrows.rows.tasks import TASKS
from speechrows.types import AUDIO_TOKEN
from speechrows.types import TRAITS

_UNSHOWN = ("input_ids", "labels", "codec_targets")  # as a column: there are pictures of them
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_MAX_TICKS = 9


def duration(seconds: float) -> str:
    """Write a length of time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    return environment


_TEMPLATES = _environment()


def render(template: str, **values: Any) -> str:
    """Render a template with its values, each escaped."""
    return _TEMPLATES.get_template(template).render(**values)


def trouble(error: Exception) -> str:
    """Render an error, in the place of what was asked for."""
    return render("trouble.html", message=str(error))


def conversation(library: Library, view: View, row: int) -> str:
    """Render the conversation of a row as a chat, that row open."""
    number, start, stop = view.conversation(row)
    around = view.turns_around(row)
    rows = [*zip(around, library.rows(view, around), strict=True)]
    turns = [_bubble(view, number, cells) for number, cells in rows]
    return render(
        "conversation.html",
        turns=turns,
        preload=_preload(library),
        open_row=row,
        number=number + 1,
        total=len(view.conversations),
        num_turns=stop - start,
        conversation_id=turns[0]["cells"]["conversation_id"],
        domain=turns[0]["cells"]["domain"],
        times=_times(turns),
        duplex=duplex(view.task_of(row), rows, library.tokenizer),
    )


def _times(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return where turns lie on the conversation's time axis, in percent; None where few are told."""
    timed = [turn for turn in turns if turn["start_s"] is not None and turn["url"]]
    if len(timed) < 2:
        return None
    first = min(turn["start_s"] for turn in timed)
    total = max(turn["start_s"] + turn["seconds"] for turn in timed) - first
    spans = [
        {
            "turn": turn,
            "left": 100 * (turn["start_s"] - first) / total,
            "width": max(0.5, 100 * turn["seconds"] / total),
        }
        for turn in timed
    ]
    return {"spans": spans, "total": total, "ticks": ticks(total)}


def _preload(library: Library) -> str:
    """Return what a player reads before it plays: a clip's length, but nothing of remote clips."""
    return "metadata" if library.folder.is_local else "none"


def _bubble(view: View, row: int, cells: Mapping[str, Any]) -> dict[str, Any]:
    user, target = (message["content"] for message in cells["messages"])
    seconds = int(view.index.num_samples[row]) / int(view.index.sampling_rate[row])
    is_echo = " ".join(target.split()).lower() == " ".join(cells["transcript"].split()).lower()
    is_own = TASKS[view.task_of(row)].takes_text and user != AUDIO_TOKEN
    return {
        "row": row,
        "cells": cells,
        "seconds": seconds,
        "start_s": cells.get("start_s"),  # which folders of earlier versions lack
        "message": user if is_own else None,
        "url": clip_url(view, row) if cells["audio"] else None,
        "traits": [(name, cells[name]) for name in TRAITS if cells[name] is not None],
        "target": None if is_echo else target,
        "target_url": clip_url(view, row, "target_audio") if cells["target_audio"] else None,
    }


def turn(library: Library, view: View, row: int) -> str:
    """Render a row in full: its sounds as pictures, its tokens, its traits, its columns."""
    (cells,) = library.rows(view, range(row, row + 1))
    row_spans = spans(cells, library.tokenizer)
    columns = {name: value for name, value in cells.items() if name not in (*_UNSHOWN, *AUDIO_COLUMNS)}
    return render(
        "turn.html",
        cells=cells,
        config=view.index.config,
        split=view.index.split,
        preload=_preload(library),
        sounds=[_sound(library, view, row, cells, name) for name in AUDIO_COLUMNS if cells[name]],
        stray=_codes(view, row, cells, None),
        spans=row_spans[:MAX_SPANS],
        hidden=len(row_spans) - MAX_SPANS,
        counts=counts(cells, row_spans),
        kinds=KINDS,
        traits=[(name, cells[name]) for name in (*TRAITS, "domain")],
        columns=columns,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Codes:
    """Codes as the page shows them: the address to hear them at, or why they can not be heard."""

    codec: str
    num_codebooks: int
    frames: int
    rate: float
    seconds: float
    picture: str
    url: str
    why_not: str | None


def _codes(view: View, row: int, cells: Mapping[str, Any], column: str | None) -> _Codes | None:
    """Return the codes of a clip; with no column, those of an answer without a clip."""
    owner = {"turn": "audio", "answer": "target_audio"}[TASKS[view.task_of(row)].codec_targets or "turn"]
    if not cells["codec_targets"] or column != (owner if cells[owner] else None):
        return None
    spec, values = CODECS[cells["codec"]], np.array(cells["codec_targets"], np.int16)
    return _Codes(
        codec=spec.name,
        num_codebooks=values.shape[0],
        frames=values.shape[1],
        rate=float(spec.rate_hz),
        seconds=float(values.shape[1] / spec.rate_hz),
        picture=pictures.code_map(values, spec.cardinality),
        url=decoded_url(view, row),
        why_not=decode.why_not(spec.name),
    )


def _sound(library: Library, view: View, row: int, cells: Mapping[str, Any], column: str) -> dict[str, Any]:
    """Return a clip and its pictures, on one time axis; a remote answer is not drawn: its column is large."""
    values: dict[str, Any] = {
        "column": column,
        "name": audio_name(cells, column),
        "url": clip_url(view, row, column),
        "codes": (codes := _codes(view, row, cells, column)),
        "drawn": None,
        "problem": None,
    }
    if column == "audio" or library.folder.is_local:
        data = library.clip(view, row, column)
        try:
            samples, rate = decode_audio(data)
            values |= {"drawn": pictures.draw(samples, rate), "rate": rate, "bytes": len(data)}
        except SpeechRowsError as error:
            values["problem"] = str(error)
    ends = [values["drawn"].seconds if values["drawn"] else 0.0, codes.seconds if codes else 0.0]
    return values | {"total": max(*ends, 1e-3), "ticks": ticks(max(ends))}


def ticks(seconds: float) -> list[float]:
    """Choose a few times to mark on an axis, from 0 on."""
    step = next((step for step in _STEPS if seconds / step <= _MAX_TICKS), math.ceil(seconds / _MAX_TICKS))
    return [i * step for i in range(int(seconds / step) + 1)]


def hits(result: Hits | None, *, names: Sequence[tuple[int, str]], text: str, total: int) -> str:
    """Render the results of a search: rows by their name, rows by what is said."""
    return render("hits.html", result=result, names=names, text=text, total=total)
