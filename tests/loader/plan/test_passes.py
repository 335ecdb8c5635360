"""Stretches of a stream of passes, compared with the stream written out."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from speechrows.loader.plan.order import OF_PASSES
from speechrows.loader.plan.order import shuffled
from speechrows.loader.plan.passes import taken


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_stretches_are_the_stream_in_order_and_have_an_item_once_more_than_their_passes_at_most(
    sizes: list[int], lengths: list[int], seed: int
) -> None:
    total, end, had = sum(sizes), 0, 0
    num_passes = sum(lengths) // total + 1
    orders = [shuffled(len(sizes), seed, number, OF_PASSES + 3).tolist() for number in range(num_passes)]
    stream, sums = [item for order in orders for item in order], Counter[int]()
    for length in lengths:
        begin, end = end, end + length
        stretch = [*taken(np.array(sizes), begin, end, seed=seed, source=3)]
        times = Counter(item for items in stretch for item in items.tolist())
        sums += times
        had += sum(sizes[item] * count for item, count in times.items())
        assert had <= end < had + max(sizes)
        assert max(times.values(), default=0) <= -(-length // total) + 1
        counts = [sums[item] for item in range(len(sizes))]
        assert max(counts) - min(counts) <= 1
        assert sums == Counter(stream[: sum(counts)])
