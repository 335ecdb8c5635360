"""Mode `pack`: sequences of `context` slots, filled best-fit with whole segments in random order.

In windows, a sequence takes segments of the window in which it is opened, and of the next; then it is
closed, as full as it is. Sequences come in the order of the windows in which they are opened.
"""

import math
from itertools import pairwise

import numpy as np

from speechrows.loader.plan.order import OF_GROUPS
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import shuffled
from speechrows.loader.plan.order import stable_argsort
from speechrows.loader.plan.segments import Name
from speechrows.loader.plan.segments import Segments
from speechrows.loader.plan.segments import concatenate
from speechrows.loader.plan.segments import draw
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.loader.plan.windows import by_window
from speechrows.types import Int32

# Of segments far shorter than the context, most are strung together in random order, a string a
# sequence; so many single ones after each then fill what rooms are left. Ten million rows are so
# planned in seconds.
_SINGLES = 5
# A room too small for all but this share of segments is a crumb, that hardly any will fill. While open
# rooms are less than this part of what is to come, a new sequence is opened rather than a crumb left.
_CRUMB = 0.05
_OPEN = 1 / 1000


def pack(rows: PlanRows, options: PlanOptions, epoch: int, name: Name) -> Plan:
    """Segments in random order, each put into the sequence that it leaves the least room in."""
    segments = draw(rows, options, epoch, name, undivided=True)
    sequence_of = _assign(segments, options)
    num_sequences = int(sequence_of.max(initial=-1)) + 1
    sequence_of = _ranks(sequence_of, num_sequences, segments.windows, options, epoch)[sequence_of]
    ends = np.cumsum(np.bincount(sequence_of, segments.counts, num_sequences)).astype(np.int64)
    begins = np.append(0, ends)[:-1]
    order = stable_argsort(sequence_of)  # in a sequence, segments stand as they came
    firsts, counts, num_dropped = segments.firsts[order], segments.counts[order], segments.num_dropped
    del segments, sequence_of, order  # large, where there are many rows
    concatenated = concatenate(rows, firsts, counts, options)
    return Plan(
        options=options,
        epoch=epoch,
        rows=concatenated.rows,
        starts=concatenated.starts(begins, ends),
        positions=concatenated.positions(),
        begins=_micro_batches(begins, options),
        ends=_micro_batches(ends, options),
        num_dropped=num_dropped,
        num_real=concatenated.num_tokens,
        num_total=num_sequences * options.num_slots,
    )


def _micro_batches(sequences: Int64, options: PlanOptions) -> Int32:
    """[sequences] as [micro-batches, sequences of a micro-batch]; the last ones may be empty."""
    empty = -len(sequences) % options.num_sequences
    return np.pad(sequences, (0, empty)).astype(np.int32).reshape(-1, options.num_sequences)


def _ranks(
    sequence_of: Int32, num_sequences: int, windows: Int32 | None, options: PlanOptions, epoch: int
) -> Int32:
    """The place of each sequence in the epoch, random; with windows, among those opened in the same one."""
    ranks = shuffled(num_sequences, options.seed, epoch, OF_GROUPS)
    if windows is not None:
        opened = np.empty(num_sequences, np.int32)
        # Of equal places the last one written stays: the first segment's.
        opened[sequence_of[::-1]] = windows[::-1]
        order = np.argsort(ranks).astype(np.int32)
        ranks[by_window(order, opened[order])] = np.arange(num_sequences)
    return ranks


def _assign(segments: Segments, options: PlanOptions) -> Int32:
    """The sequence of each segment, numbered as they are opened."""
    lengths = segments.slots
    if not len(lengths):  # all of them were dropped
        return lengths
    edges = np.array([0, len(lengths)])
    if segments.windows is not None:
        edges = np.append(np.flatnonzero(np.diff(segments.windows, prepend=-1)), len(lengths))
    parts = [_strung(lengths[at:end], options.num_slots) + at for at, end in pairwise(edges.tolist())]
    firsts = np.concatenate(parts)
    items = np.add.reduceat(lengths, firsts)
    counts = np.diff(firsts, append=len(lengths))
    quantum = math.gcd(options.num_slots, int(np.gcd.reduce(items, initial=0)))  # fewer rooms to tell apart
    crumb = int(np.quantile(lengths, _CRUMB, method="lower")) // quantum
    edges = np.searchsorted(firsts, edges)
    sequence_of = best_fit((items // quantum).tolist(), edges.tolist(), options.num_slots // quantum, crumb)
    return np.repeat(np.array(sequence_of, np.int32), counts)


def _strung(lengths: Int32, num_slots: int) -> Int64:
    """Where items begin: a string of segments that leaves room for `_SINGLES`, then as many single ones."""
    limit = num_slots - _SINGLES * int(lengths.sum(dtype=np.int64)) // len(lengths)
    if limit <= num_slots * 3 // 4:
        return np.arange(len(lengths))
    ends = np.cumsum(lengths, dtype=np.int64)
    firsts: list[int] = []
    at = 0
    while at < len(lengths):
        before = ends[at] - lengths[at]
        after = max(at + 1, int(np.searchsorted(ends, before + limit, side="right")))
        firsts.append(at)
        firsts.extend(range(after, min(after + _SINGLES, len(lengths))))
        at = after + _SINGLES
    return np.array(firsts)


def best_fit(lengths: list[int], edges: list[int], capacity: int, crumb: int) -> list[int]:
    """On-line best fit: the bin of each length, in the order in which they come.

    `edges` are where windows begin, and the end: a bin is open in the window that opens it and the next.
    Taking each as it comes keeps a bin's contents random: sorted by length, it would hold equal ones.
    """
    bins = _Bins(capacity, crumb)
    bin_of: list[int] = []
    for at, end, after in zip(edges, edges[1:], [*edges[2:], edges[-1]], strict=False):
        oldest = bins.count
        bin_of += bins.fill(lengths[at:end], sum(lengths[at:after]))
        if end < after:
            bins.close(oldest)
    return bin_of


class _Bins:
    """Bins on stacks by the room left in them; a bit of `_rooms` says which stacks are not empty."""

    def __init__(self, capacity: int, crumb: int) -> None:
        self._stacks: list[list[int]] = [[] for _ in range(capacity + 1)]
        self._rooms, self._open_room = 0, 0
        self._capacity, self._crumb = capacity, crumb
        self.count = 0

    def fill(self, lengths: list[int], to_come: int) -> list[int]:
        """The bin of each length; `to_come` is the sum of lengths before open bins close."""
        stacks, rooms, open_room = self._stacks, self._rooms, self._open_room
        capacity, crumb, num_bins = self._capacity, self._crumb, self.count
        bins: list[int] = []
        for length in lengths:
            fitting = rooms >> length
            if fitting and not fitting & 1:  # none exactly: one that leaves no crumb
                larger = fitting >> crumb << crumb
                if larger or open_room < to_come * _OPEN:
                    fitting = larger
            if fitting:
                room = length + (fitting & -fitting).bit_length() - 1
                stack = stacks[room]
                chosen = stack.pop()
                if not stack:
                    rooms ^= 1 << room
            else:
                room, chosen = capacity, num_bins
                num_bins += 1
                open_room += capacity
            bins.append(chosen)
            open_room -= length
            to_come -= length
            rest = room - length
            if rest:
                if not stacks[rest]:
                    rooms |= 1 << rest
                stacks[rest].append(chosen)
        self._rooms, self._open_room, self.count = rooms, open_room, num_bins
        return bins

    def close(self, oldest: int) -> None:
        """Close the bins that were opened before bin `oldest`."""
        rooms = self._rooms
        while rooms:
            room = (rooms & -rooms).bit_length() - 1
            rooms ^= 1 << room
            stack = self._stacks[room]
            still_open = [number for number in stack if number >= oldest]
            self._open_room -= room * (len(stack) - len(still_open))
            self._stacks[room] = still_open
            if not still_open:
                self._rooms ^= 1 << room
