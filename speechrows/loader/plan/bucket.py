"""Mode `bucket`: rows of like length together, under a budget of seconds or tokens with their padding."""

from bisect import bisect_right
from itertools import pairwise

import numpy as np

from speechrows.loader.plan.order import OF_GROUPS
from speechrows.loader.plan.order import OF_ROWS
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import shuffled
from speechrows.loader.plan.order import stable_argsort
from speechrows.loader.plan.segments import Name
from speechrows.loader.plan.segments import without_too_long
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.loader.plan.windows import by_window
from speechrows.loader.plan.windows import windows
from speechrows.types import Int32


def bucket(rows: PlanRows, options: PlanOptions, epoch: int, name: Name) -> Plan:
    """Shuffle rows, sort them by length, cut them into batches, shuffle the batches; window by window."""
    lengths = rows.num_tokens if options.budget_tokens is not None else rows.ticks
    lengths = np.maximum(lengths, 1)
    numbers = without_too_long(rows, lengths, options, name)
    numbers = numbers[shuffled(len(numbers), options.seed, epoch, OF_ROWS)]
    keys = lengths[numbers]
    np.subtract(keys.max(initial=0), keys, out=keys)
    numbers = numbers[stable_argsort(keys)]  # longest first, else in random order
    del keys  # large, where there are many rows
    window_of = windows(rows, options, epoch)
    edges = np.array([0, len(numbers)])
    part_of = _parts(window_of, rows.apart)
    if part_of is not None:
        numbers = by_window(numbers, part_of[numbers])
        edges = np.append(edges, np.flatnonzero(np.diff(part_of[numbers])) + 1)
        edges.sort()
    sizes = lengths[numbers]
    begins = np.concatenate([_cut(sizes[at:end], options) + at for at, end in pairwise(edges.tolist())])
    ends = np.append(begins[1:], len(numbers)) if len(begins) else begins
    order = shuffled(len(begins), options.seed, epoch, OF_GROUPS)
    if window_of is not None:
        order = by_window(order, window_of[numbers[begins[order]]])
    zeros = np.broadcast_to(np.int32(0), numbers.shape)  # every row stands alone, from slot 0 on
    return Plan(
        options=options,
        epoch=epoch,
        rows=numbers,
        starts=zeros,
        positions=zeros,
        begins=begins[order].astype(np.int32)[:, None],
        ends=ends[order].astype(np.int32)[:, None],
        num_dropped=len(rows) - len(numbers),
        num_real=int(sizes.sum(dtype=np.int64)),
        num_total=int(((ends - begins) * sizes[begins]).sum()),
    )


def _parts(window_of: Int32 | None, apart: Int32 | None) -> Int32 | None:
    """The part of each row that batches are cut from: its window, and in that what it may be batched with."""
    if window_of is None or apart is None:
        return apart if window_of is None else window_of
    return window_of * (int(apart.max(initial=0)) + 1) + apart


def _cut(sizes: Int32, options: PlanOptions) -> Int64:
    """Where batches begin, in rows sorted longest first: a batch has budget // (its longest) rows.

    Batches that begin with rows of one length are equally large, so the loop is over lengths.
    """
    edges = [*(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]
    at, firsts = 0, [np.empty(0, np.int64)]
    while at < len(sizes):
        size = options.budget // int(sizes[at])
        size = min(size, options.batch_size or size)
        firsts.append(np.arange(at, edges[bisect_right(edges, at)], size))
        at = int(firsts[-1][-1]) + size
    return np.concatenate(firsts)
