"""Mode `lanes`: conversations follow one another in each lane, so that a state is carried from step to step.

Where a lane's step ends inside a conversation, it does so between two turns, wherever in a
mini-batch of the model: the carried state holds the unfinished one. Pads close each conversation on
a multiple of 64 of its own count, so with what is carried put before it a lane is aligned throughout.
Pads past the context are left out: the step ends there, and the next begins with a reset.
"""

import numpy as np

from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.segments import ConcatenatedRows
from speechrows.loader.plan.segments import Name
from speechrows.loader.plan.segments import concatenate
from speechrows.loader.plan.segments import draw
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.types import Int32


def lanes(rows: PlanRows, options: PlanOptions, epoch: int, name: Name) -> Plan:
    """Segments in random order, cut into lanes of equal length, each read in steps of `context` slots."""
    segments = draw(rows, options, epoch, name, undivided=False)
    concatenated = concatenate(rows, segments.firsts, segments.counts, options)
    num_lanes = options.micro_batches * options.num_sequences
    cuts = _cuts(concatenated, num_lanes)
    firsts = _steps(concatenated, rows.num_tokens, cuts, options.num_slots)  # [steps + 1, lanes]
    by_lane = firsts[:-1].T.ravel(), firsts[1:].T.ravel()  # in this order they follow one another
    shape = (-1, options.num_sequences)
    return Plan(
        options=options,
        epoch=epoch,
        rows=concatenated.rows,
        starts=concatenated.starts(*by_lane),
        positions=concatenated.positions(),
        begins=firsts[:-1].astype(np.int32).reshape(shape),
        ends=firsts[1:].astype(np.int32).reshape(shape),
        num_dropped=segments.num_dropped,
        num_real=concatenated.num_tokens,
        num_total=(len(firsts) - 1) * num_lanes * options.num_slots,
    )


def _cuts(concatenated: ConcatenatedRows, num_lanes: int) -> Int64:
    """The first row of each lane, and the last one's end: where segments end, nearest to equal parts."""
    if len(concatenated.edges) == 1:
        return np.zeros(num_lanes + 1, np.int64)
    slots = concatenated.before[concatenated.edges]
    targets = np.arange(num_lanes + 1) * slots[-1] // num_lanes
    after = np.searchsorted(slots, targets).clip(1)
    nearest = after - (targets - slots[after - 1] < slots[after] - targets)
    return concatenated.edges[nearest].astype(np.int64)


def _steps(concatenated: ConcatenatedRows, num_tokens: Int32, cuts: Int64, num_slots: int) -> Int64:
    """The place in `rows` at which each lane begins each step: [steps + 1, lanes]."""
    # Pads need no room: they may be cut off.
    real_ends = concatenated.before[:-1] + num_tokens[concatenated.rows]
    at, ends = cuts[:-1], cuts[1:]
    steps = [at]
    while (at < ends).any():
        at = np.minimum(np.searchsorted(real_ends, concatenated.before[at] + num_slots, side="right"), ends)
        steps.append(at)
    return np.stack(steps)
