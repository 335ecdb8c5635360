"""Shuffling and sorting that give the same order under every version of numpy."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from speechrows.types import Int32

Int64 = npt.NDArray[np.int64]
N = TypeVar("N", np.int32, np.int64)

# What is shuffled: each has random numbers of its own.
OF_ROWS = 0
OF_GROUPS = 1  # micro-batches, sequences
OF_ROW_GROUPS = 2
OF_PASSES = 1 << 16  # and of those on: a source each


def shuffled(count: int, seed: int, epoch: int, purpose: int) -> Int32:
    """Return 0..count-1 in random order.

    numpy promises the bits of Philox for ever, but not what `permutation` makes of them. So the
    order is that of the raw numbers, each with its place in its low bits: no two are equal, so every
    sort gives the same order.
    """
    key = np.array([seed % 2**64, epoch], np.uint64)
    numbers = np.random.Philox(key=key, counter=[0, 0, 0, purpose]).random_raw(count)
    places = np.uint64((1 << count.bit_length()) - 1)
    numbers &= ~places
    numbers |= np.arange(count, dtype=np.uint64)
    numbers.sort()
    numbers &= places
    return numbers.astype(np.int32)


def stable_argsort(keys: npt.NDArray[np.integer]) -> Int64:
    """The stable argsort of whole numbers from 0 on: radix sort, 16 bits at a time."""
    order = np.argsort(keys.astype(np.uint16), kind="stable")  # the low 16 bits; linear for this type alone
    bits = 16
    while keys.max(initial=0) >> bits:
        order = order[np.argsort((keys >> bits).astype(np.uint16)[order], kind="stable")]
        bits += 16
    return order


def expanded(firsts: npt.NDArray[N], counts: npt.NDArray[np.integer]) -> npt.NDArray[N]:
    """The ranges first..first+count-1, one after another, in the type of `firsts`."""
    before = np.cumsum(counts, dtype=firsts.dtype)
    before -= counts
    places = np.repeat(np.subtract(firsts, before, out=before), counts)
    places += np.arange(len(places), dtype=firsts.dtype)
    return places
