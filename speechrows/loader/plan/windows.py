"""Windows: as many row groups, in random order, as can be held in memory at once.

Behind a network a shuffle of the whole epoch would cost a request a clip. Inside a window, the rows of a
row group that one batch leaves are read by the next ones.
"""

import numpy as np

from speechrows.errors import UsageError
from speechrows.loader.plan.order import OF_ROW_GROUPS
from speechrows.loader.plan.order import shuffled
from speechrows.loader.plan.order import stable_argsort
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.types import Int32


def windows(rows: PlanRows, options: PlanOptions, epoch: int) -> Int32 | None:
    """The window of each row, numbered as they are read; None where the whole epoch is shuffled.

    Raises:
        UsageError: the rows have no `row_groups` or `num_bytes`.
    """
    if options.window_bytes is None:
        return None
    if rows.row_groups is None or rows.num_bytes is None:
        raise UsageError("window_bytes: found rows without row groups and bytes, expected those of an index")
    firsts = np.flatnonzero(np.diff(rows.row_groups, prepend=rows.row_groups[0] - 1))
    counts = np.diff(firsts, append=len(rows))
    sizes = np.add.reduceat(rows.num_bytes, firsts, dtype=np.int64)
    order = shuffled(len(firsts), options.seed, epoch, OF_ROW_GROUPS)
    window_of = np.empty(len(firsts), np.int32)
    window, num_bytes = 0, 0
    for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if num_bytes and num_bytes + size > options.window_bytes:
            window, num_bytes = window + 1, 0
        num_bytes += size
        window_of[group] = window
    return np.repeat(window_of, counts)


def by_window(order: Int32, window_of: Int32) -> Int32:
    """`order` sorted by window, otherwise as it stands; `window_of` is the window of each of its entries."""
    return order[stable_argsort(window_of)]
