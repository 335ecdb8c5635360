"""Endless passes: epochs follow one another in them, so nothing is taken two times more than another."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.loader.plan.passes import taken

sizes = st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any)
lengths = st.lists(st.integers(0, 60), min_size=1, max_size=12)


def stretches(sizes: list[int] | int, amounts: list[int], seed: int) -> list[list[int]]:
    """The items of stretches that follow one another."""
    ends = np.cumsum([0, *amounts]).tolist()
    items = sizes if isinstance(sizes, int) else np.array(sizes, np.int64)
    pairs = pairwise(ends)
    return [
        [item for chosen in taken(items, begin, end, seed=seed, source=2) for item in chosen.tolist()]
        for begin, end in pairs
    ]


@given(count=st.integers(1, 40), amounts=lengths, seed=st.integers(0, 5))
@MANY
def test_epochs_have_exactly_their_rows_and_no_row_two_times_more_than_another(
    count: int, amounts: list[int], seed: int
) -> None:
    heard = np.zeros(count, int)
    for amount, items in zip(amounts, stretches(count, amounts, seed), strict=True):
        assert len(items) == amount
        np.add.at(heard, items, 1)
        assert heard.max() - heard.min() <= 1


@given(sizes=sizes, amounts=lengths, seed=st.integers(0, 5))
@MANY
def test_of_conversations_epochs_together_never_have_more_than_said_and_less_by_one_at_most(
    sizes: list[int], amounts: list[int], seed: int
) -> None:
    heard, said, had = np.zeros(len(sizes), int), 0, 0
    for amount, items in zip(amounts, stretches(sizes, amounts, seed), strict=True):
        said, had = said + amount, had + sum(sizes[item] for item in items)
        assert said - max(sizes) < had <= said or had == said == 0
        np.add.at(heard, items, 1)
        with_size = heard[np.array(sizes) > 0]
        assert with_size.max() - with_size.min() <= 1


@given(count=st.integers(1, 40), passes=st.integers(1, 3), seed=st.integers(0, 5))
@MANY
def test_each_pass_has_every_item_once(count: int, passes: int, seed: int) -> None:
    (items,) = stretches(count, [passes * count], seed)
    assert sorted(items) == sorted([*range(count)] * passes)


def test_passes_and_sources_have_orders_of_their_own() -> None:
    def first_half(number: int, source: int) -> list[int]:
        (items,) = taken(100, number * 100, number * 100 + 50, seed=0, source=source)
        return items.tolist()

    assert len({tuple(first_half(number, source)) for number in range(3) for source in range(3)}) == 9
