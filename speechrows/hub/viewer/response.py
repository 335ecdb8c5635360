"""The size of the viewer's response for the first rows: JSON of rows, cells cut where it is too large.

The numbers are those of dataset-viewer's `create_first_rows_response` in production.
"""

import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from datasets import Audio
from datasets import Features

MAX_BYTES = 200_000
MIN_ROWS = 10
_CUT_CELL = 100  # bytes that a cut cell keeps
_ADDRESS = (
    "https://datasets-server.huggingface.co/assets/org/name/--/{revision}/--/config/split/{row}/{column}/"
)


def first_rows_bytes(features: Features, rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Return the bytes of the response with the first ten rows: whole, and with all cells cut that may be."""
    kinds: dict[str, Any] = dict(features.to_dict())
    columns = [{"feature_idx": i, "name": name, "type": kinds[name]} for i, name in enumerate(kinds)]
    envelope = _size({"features": columns, "rows": [], "truncated": True})
    whole = cut = envelope
    for number, row in enumerate(rows[:MIN_ROWS]):
        item = {"row_idx": number, "truncated_cells": list[str]()}
        cells = {name: _cell(number, name, row.get(name), kind) for name, kind in features.items()}
        whole += _size({**item, "row": cells}) + 1
        audio = {name for name, kind in features.items() if isinstance(kind, Audio)}
        shorter = {name: cell if name in audio else _cut(cell) for name, cell in cells.items()}
        long = [name for name, cell in cells.items() if shorter[name] != cell]
        cut += _size({**item, "truncated_cells": long, "row": shorter}) + 1
    return whole, cut


def _cell(number: int, column: str, value: Any, kind: Any) -> Any:
    """Return a cell as the viewer sends it: audio as the address of its copy."""
    if not isinstance(kind, Audio) or value is None:
        return value
    address = _ADDRESS.format(revision="0" * 40, row=number, column=column)
    return [{"src": f"{address}audio.wav", "type": "audio/wav"}]


def _cut(cell: Any) -> Any:
    text = json.dumps(cell, ensure_ascii=False, separators=(",", ":"), default=str).encode()
    return cell if len(text) <= _CUT_CELL else text[:_CUT_CELL].decode(errors="ignore")


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).encode())
