"""An epoch planned before it is read: from lengths and a seed to the steps, as a value.

Pure: numpy alone, no files, no clock. So the steps are the same whatever the number of ranks,
threads or restarts, and a run resumes with `plan[step:]`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from speechrows.loader.plan.bucket import bucket
from speechrows.loader.plan.conversations import conversations
from speechrows.loader.plan.lanes import lanes
from speechrows.loader.plan.pack import pack
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows

__all__ = ["MicroBatch", "Plan", "PlanOptions", "PlanRows", "plan_epoch"]

_MODES = {"bucket": bucket, "pack": pack, "lanes": lanes, "conversations": conversations}


def _number(row: int) -> str:
    return f"row {row}"


def plan_epoch(
    rows: PlanRows, options: PlanOptions, *, epoch: int = 0, name: Callable[[int], str] = _number
) -> Plan:
    """Plan an epoch: every row is in it once, or counted as dropped. `name` names a row in errors.

    Raises:
        UsageError: a row, or a conversation, is too long for the budget and `too_long` is "error".
    """
    if not len(rows):
        return _empty(options, epoch)
    plan = _MODES[options.mode](rows, options, epoch, name)
    # The last step is filled up with micro-batches of no rows.
    missing = ((0, -len(plan.begins) % options.micro_batches), (0, 0))
    return replace(plan, begins=np.pad(plan.begins, missing), ends=np.pad(plan.ends, missing))


def _empty(options: PlanOptions, epoch: int) -> Plan:
    no_rows = np.empty(0, np.int32)
    no_ranges = np.empty(
        (0, 1 if options.mode in ("bucket", "conversations") else options.num_sequences), np.int32
    )
    return Plan(
        options=options, epoch=epoch, rows=no_rows, starts=no_rows, positions=no_rows, begins=no_ranges,
        ends=no_ranges, num_dropped=0, num_real=0, num_total=0,
    )  # fmt: skip
