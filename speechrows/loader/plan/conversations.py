"""Mode `conversations`: whole conversations in each micro-batch, of whatever task their rows are.

A view takes a conversation as one example, with all its turns; how long it is follows from its clips.
"""

from dataclasses import replace

import numpy as np

from speechrows.loader.plan.bucket import bucket
from speechrows.loader.plan.order import expanded
from speechrows.loader.plan.segments import Name
from speechrows.loader.plan.segments import segment_firsts
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.types import Int32


def conversations(rows: PlanRows, options: PlanOptions, epoch: int, name: Name) -> Plan:
    """Conversations as `bucket` plans rows: those of like length together, where seconds are bounded.

    Where `batch_size` alone bounds a micro-batch, they come in random order; without `shuffle`, in that of
    the files. The plan's `positions` number the turns of a conversation.
    """
    firsts = segment_firsts(replace(rows, whole=True))
    counts = np.diff(firsts, append=np.int32(len(rows)))
    ticks = np.add.reduceat(rows.ticks, firsts)
    by_conversation = PlanRows(
        num_tokens=np.add.reduceat(rows.num_tokens, firsts),
        ticks=ticks if options.budget_seconds is not None else np.ones_like(ticks),
        conversations=np.arange(len(firsts), dtype=np.int32),
        whole=True,
        row_groups=None if rows.row_groups is None else rows.row_groups[firsts],
        num_bytes=None if rows.num_bytes is None else np.add.reduceat(rows.num_bytes, firsts, dtype=np.int64),
    )
    if options.shuffle:
        plan = bucket(by_conversation, options, epoch, lambda number: name(int(firsts[number])))
    else:
        plan = _in_file_order(by_conversation, options, epoch)
    chosen = plan.rows
    edges = np.append(np.int32(0), np.cumsum(counts[chosen], dtype=np.int32))
    numbers = expanded(firsts[chosen], counts[chosen])
    return replace(
        plan,
        rows=numbers,
        starts=np.broadcast_to(np.int32(0), numbers.shape),
        positions=np.arange(len(numbers), dtype=np.int32) - np.repeat(edges[:-1], counts[chosen]),
        begins=edges[plan.begins],
        ends=edges[plan.ends],
        num_dropped=len(rows) - len(numbers),
        num_real=int(ticks[chosen].sum(dtype=np.int64)),
        num_total=_padded(ticks[chosen], plan),
    )


def _in_file_order(rows: PlanRows, options: PlanOptions, epoch: int) -> Plan:
    size = options.batch_size or 1
    numbers = np.arange(len(rows), dtype=np.int32)
    begins = numbers[::size, None]
    return Plan(
        options=options, epoch=epoch, rows=numbers, starts=numbers, positions=numbers, begins=begins,
        ends=np.minimum(begins + np.int32(size), np.int32(len(rows))), num_dropped=0, num_real=0, num_total=0,
    )  # fmt: skip


def _padded(ticks: Int32, plan: Plan) -> int:
    """The ticks of all micro-batches, where each conversation is padded to the longest beside it."""
    begins, ends = plan.begins[:, 0], plan.ends[:, 0]
    order = np.argsort(begins)
    if not len(order):
        return 0
    longest = np.maximum.reduceat(ticks, begins[order])
    return int((longest.astype(np.int64) * (ends - begins)[order]).sum())
