"""Windows: row groups in random order, so many that their bytes can be held at once.

Behind a network a shuffle of the whole epoch would be a request a clip. Inside a window, what one
batch leaves of a row group the next ones take.
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
        UsageError: nothing is known of the rows' bytes.
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
    window, held = 0, 0
    for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if held and held + size > options.window_bytes:
            window, held = window + 1, 0
        held += size
        window_of[group] = window
    return np.repeat(window_of, counts)


def by_window(order: Int32, window_of: Int32) -> Int32:
    """What stands in some order, sorted by window; `window_of` has the window of each, in that order."""
    return order[stable_argsort(window_of)]
