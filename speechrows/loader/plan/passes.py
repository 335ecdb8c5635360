"""Endless shuffled passes through a source, and the stretch of them that an epoch takes.

A pass has every item once, in an order of its own. Epochs follow one another in the stream of passes, each
from where the one before it stopped; so where one begins is arithmetic, and from the beginning on no item is
taken two times more than another. A stretch alone may have one once more than its passes, rounded up.
"""

from collections.abc import Iterator

import numpy as np

from speechrows.loader.plan.order import OF_PASSES
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import shuffled
from speechrows.types import Int32


def taken(sizes: Int64 | int, begin: int, end: int, *, seed: int, source: int) -> Iterator[Int32]:
    """The items of a stretch of the stream, pass by pass, each pass' in their own order, ascending.

    `sizes` are what each item takes of the stream, or how many items of one each there are. An item
    belongs to the stretch in which it ends: to that from `begin`, excluded, to `end`, included. So stretches
    that follow one another have each item of the stream once, and the first of them never have more than
    their ends say; only what is cut short of an end comes in the next stretch.
    """
    count = sizes if isinstance(sizes, int) else len(sizes)
    total = sizes if isinstance(sizes, int) else int(sizes.sum())
    if not total:
        return
    for number in range(begin // total, -(-end // total)):
        first, last = max(begin - number * total, 0), min(end - number * total, total)
        if first == 0 and last == total:
            yield np.arange(count, dtype=np.int32)
            continue
        order = shuffled(count, seed, number, OF_PASSES + source)
        if isinstance(sizes, int):
            chosen = order[first:last]
        else:
            ends = np.cumsum(sizes[order])
            # What takes nothing at the beginning of a pass is of the stretch that begins it.
            low = np.searchsorted(ends, first, side="right") if first else 0
            chosen = order[low : np.searchsorted(ends, last, side="right")]
        is_chosen = np.zeros(count, bool)
        is_chosen[chosen] = True
        yield np.flatnonzero(is_chosen).astype(np.int32)
