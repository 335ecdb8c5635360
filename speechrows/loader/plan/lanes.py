"""Mode `lanes`: conversations follow one another in each lane, so that a state is carried from step to step.

Where a lane's step ends inside a conversation, it does so between two turns, wherever in a
mini-batch of the model: the carried state holds the unfinished one. Pads close each conversation on
a multiple of 64 of its own count, so with what is carried put before it a lane is aligned throughout.
Pads past the context are left out: the step ends there, and the next begins with a reset.

With `session_tokens`, conversations of one source follow one another in sessions, and the state is reset
where a session begins, not where each conversation does.
"""

import numpy as np

from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.segments import ConcatenatedRows
from speechrows.loader.plan.segments import Name
from speechrows.loader.plan.segments import concatenate
from speechrows.loader.plan.segments import draw
from speechrows.loader.plan.sessions import chain
from speechrows.loader.plan.sessions import edges_of
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows


def lanes(rows: PlanRows, options: PlanOptions, epoch: int, name: Name) -> Plan:
    """Segments in random order, cut into lanes of equal length, each read in steps of `context` slots."""
    sessions = chain(rows, draw(rows, options, epoch, name, undivided=False), options)
    segments = sessions.segments
    concatenated = concatenate(rows, segments.firsts, segments.counts, options)
    num_lanes = options.micro_batches * options.num_sequences
    edges, closed = edges_of(sessions, concatenated, options.num_slots)
    cuts = _cuts(concatenated, edges, num_lanes)
    # The last pads of a session need no room: they may be cut off.
    ends = concatenated.before[:-1] + rows.num_tokens[concatenated.rows]
    ends[closed] = concatenated.before[closed + 1]
    firsts = _steps(concatenated, ends, cuts, options.num_slots)  # [steps + 1, lanes]
    resets = None
    if options.session_tokens is not None:
        resets = np.zeros(len(concatenated.rows), bool)
        resets[edges[:-1]] = True
    by_lane = firsts[:-1].T.ravel(), firsts[1:].T.ravel()  # in this order they follow one another
    shape = (-1, options.num_sequences)
    return Plan(
        options=options,
        epoch=epoch,
        rows=concatenated.rows,
        starts=concatenated.starts(*by_lane),
        positions=concatenated.positions(),
        resets=resets,
        begins=firsts[:-1].astype(np.int32).reshape(shape),
        ends=firsts[1:].astype(np.int32).reshape(shape),
        num_dropped=segments.num_dropped,
        num_real=concatenated.num_tokens,
        num_total=(len(firsts) - 1) * num_lanes * options.num_slots,
    )


def _cuts(concatenated: ConcatenatedRows, edges: Int64, num_lanes: int) -> Int64:
    """The first row of each lane, and the last one's end: where sessions end, nearest to equal parts."""
    if len(edges) == 1:
        return np.zeros(num_lanes + 1, np.int64)
    slots = concatenated.before[edges]
    targets = np.arange(num_lanes + 1) * slots[-1] // num_lanes
    after = np.searchsorted(slots, targets).clip(1)
    nearest = after - (targets - slots[after - 1] < slots[after] - targets)
    return edges[nearest]


def _steps(concatenated: ConcatenatedRows, row_ends: Int64, cuts: Int64, num_slots: int) -> Int64:
    """The place in `rows` at which each lane begins each step: [steps + 1, lanes].

    `row_ends` are the slots up to where each row needs room.
    """
    at, ends = cuts[:-1], cuts[1:]
    steps = [at]
    while (at < ends).any():
        at = np.minimum(np.searchsorted(row_ends, concatenated.before[at] + num_slots, side="right"), ends)
        steps.append(at)
    return np.stack(steps)
