"""Mode `bucket`: rows of like length together, under a budget of seconds or tokens with their padding."""

import numpy as np

from speechrows.loader.plan.order import OF_GROUPS
from speechrows.loader.plan.order import OF_ROWS
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import shuffled
from speechrows.loader.plan.order import stable_argsort
from speechrows.loader.plan.units import Name
from speechrows.loader.plan.units import without_too_long
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.types import Int32


def bucket(rows: PlanRows, options: PlanOptions, epoch: int, name: Name) -> Plan:
    """Random order, sorted by length, cut into batches, the batches shuffled."""
    lengths = rows.num_tokens if options.budget_tokens is not None else rows.ticks
    lengths = np.maximum(lengths, 1)
    kept = without_too_long(rows, lengths, options, name)
    placed = kept[shuffled(len(kept), options.seed, epoch, OF_ROWS)]
    keys = lengths[placed]
    placed = placed[stable_argsort(keys.max(initial=0) - keys)]  # longest first, else in random order
    sizes = lengths[placed]
    begins = _cut(sizes, options)
    ends = np.append(begins[1:], len(placed)) if len(begins) else begins
    order = shuffled(len(begins), options.seed, epoch, OF_GROUPS)
    nothing = np.broadcast_to(np.int32(0), placed.shape)  # every row stands alone, from slot 0 on
    return Plan(
        options=options,
        epoch=epoch,
        rows=placed,
        starts=nothing,
        positions=nothing,
        begins=begins[order].astype(np.int32)[:, None],
        ends=ends[order].astype(np.int32)[:, None],
        num_dropped=len(rows) - len(kept),
        num_real=int(sizes.sum(dtype=np.int64)),
        num_total=int(((ends - begins) * sizes[begins]).sum()),
    )


def _cut(sizes: Int32, options: PlanOptions) -> Int64:
    """Where batches begin, in rows sorted longest first: each has budget // longest rows.

    Batches that begin with rows of one length are equally large, so the loop is over lengths.
    """
    edges = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]
    at, parts = 0, [np.empty(0, np.int64)]
    for edge in edges[1:]:
        if at < edge:
            size = options.budget // int(sizes[at])
            size = min(size, options.batch_size or size)
            parts.append(np.arange(at, edge, size))
            at = int(parts[-1][-1]) + size
    return np.concatenate(parts)
