"""Texts of many rows into a template: in batches, as a tokenizer is fastest, but not larger than memory."""

from collections.abc import Sequence

from speechrows.types import Fields
from speechrows.types import Rendered
from speechrows.types import Template

_MOST_CHARACTERS = 4_000_000  # of a batch: a tokenizer takes hundreds of bytes for each


def fill(template: Template, rows: Sequence[Fields]) -> list[Rendered | None]:
    """What `template.fill` makes of the rows, whatever their texts weigh together."""
    rendered: list[Rendered | None] = []
    start = weight = 0
    for i, row in enumerate(rows):
        length = len(row.transcript) + len(row.answer)
        if weight + length > _MOST_CHARACTERS and i > start:
            rendered += template.fill(rows[start:i])
            start, weight = i, 0
        weight += length
    return [*rendered, *template.fill(rows[start:])]
