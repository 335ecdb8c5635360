"""Micro-batches of single rows with what stands before each in its segment: what a model answers from."""

from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np

from speechrows.loader.plan.segments import row_slots
from speechrows.loader.plan.segments import segment_firsts
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows


def with_rows_before(rows: PlanRows, options: PlanOptions, numbers: Sequence[int]) -> Iterator[MicroBatch]:
    """A micro-batch of one sequence for each of some rows: the row, last, and those of its segment before it.

    Of these the latest, as many as the context has room for; in `bucket`, where rows stand alone, none.
    Each row has to fit into the context itself.
    """
    firsts = segment_firsts(rows)
    for step, row in enumerate(numbers):
        first = row
        if options.mode != "bucket":
            first = int(firsts[np.searchsorted(firsts, row, side="right") - 1])
        slots = row_slots(rows.num_tokens[first : row + 1], options)
        slots[-1] = rows.num_tokens[row]  # pads after the last row need no room
        if options.mode != "bucket":
            kept = int((np.cumsum(slots[::-1]) <= options.num_slots).sum())
            first, slots = row + 1 - kept, slots[len(slots) - kept :]
        before = (np.cumsum(slots) - slots).astype(np.int32)
        here = np.arange(first, row + 1, dtype=np.int32)
        yield MicroBatch(
            step=step, number=0, num_sequences=1, rows=here, sequence=np.zeros_like(here), start=before,
            position=before,
        )  # fmt: skip
