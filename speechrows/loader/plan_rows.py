"""The columns of an index that a plan needs: lengths, conversations, row groups."""

import numpy as np

from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.values import TICKS_PER_SECOND
from speechrows.loader.plan.values import PlanRows
from speechrows.types import Int32


def plan_rows(index: IndexedRows, *, windowed: bool = False, sourced: bool = False) -> PlanRows:
    """The rows of an index as a plan takes them.

    With row groups and bytes if the plan is `windowed`, with sources if it is of sessions, `sourced`.
    """
    row_groups = None
    if windowed:
        sizes = np.diff(index.group_starts, append=len(index))
        row_groups = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return PlanRows(
        num_tokens=index.num_tokens,
        ticks=ticks_of(index.num_samples, index.sampling_rate),
        conversations=index.conversation,
        whole=index.whole,
        row_groups=row_groups,
        num_bytes=index.audio_length if windowed else None,
        sources=index.source if sourced else None,
    )


def ticks_of(num_samples: Int64, sampling_rates: Int32) -> Int32:
    """The lengths of clips in ticks, rounded up."""
    ticks = num_samples * -TICKS_PER_SECOND
    ticks //= sampling_rates
    return np.negative(ticks, out=ticks).astype(np.int32)
