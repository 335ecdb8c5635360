"""Mode `pack`: sequences of `context` slots, filled best-fit with whole units in random order."""

import math

import numpy as np

from speechrows.loader.plan.order import OF_GROUPS
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import shuffled
from speechrows.loader.plan.order import stable_argsort
from speechrows.loader.plan.units import Name
from speechrows.loader.plan.units import draw
from speechrows.loader.plan.units import stream
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.types import Int32

# Of units far shorter than the context, most are strung together in random order, a string a
# sequence; so many single ones after each then fill what rooms are left. Ten million rows are so
# planned in seconds.
_SINGLES = 5
# A room too small for all but this share of units is a crumb, that hardly any will fill. While open
# rooms are less than this part of what is to come, a new sequence is opened rather than a crumb left.
_CRUMB = 0.05
_OPEN = 1 / 1000


def pack(rows: PlanRows, options: PlanOptions, epoch: int, name: Name) -> Plan:
    """Units in random order, each into the sequence that it leaves the least room in."""
    units = draw(rows, options, epoch, name, undivided=True)
    sequence_of = _assign(units.slots, options)
    num_sequences = int(sequence_of.max(initial=-1)) + 1
    sequence_of = shuffled(num_sequences, options.seed, epoch, OF_GROUPS)[sequence_of]
    ends = np.cumsum(np.bincount(sequence_of, units.counts, num_sequences)).astype(np.int64)
    begins = np.append(0, ends)[:-1]
    order = stable_argsort(sequence_of)  # in a sequence, units stand as they came
    firsts, counts, num_dropped = units.firsts[order], units.counts[order], units.num_dropped
    del units, sequence_of, order  # large, where there are many rows
    placed = stream(rows, firsts, counts, options)
    return Plan(
        options=options,
        epoch=epoch,
        rows=placed.rows,
        starts=placed.starts(begins, ends),
        positions=placed.positions,
        begins=_micro_batches(begins, options),
        ends=_micro_batches(ends, options),
        num_dropped=num_dropped,
        num_real=int(placed.num_tokens.sum(dtype=np.int64)),
        num_total=num_sequences * options.num_slots,
    )


def _micro_batches(sequences: Int64, options: PlanOptions) -> Int32:
    """[sequences] to [micro-batches, sequences of one]; the last are empty."""
    empty = -len(sequences) % options.num_sequences
    return np.pad(sequences, (0, empty)).astype(np.int32).reshape(-1, options.num_sequences)


def _assign(lengths: Int32, options: PlanOptions) -> Int32:
    """The sequence of each unit, numbered as they are opened."""
    if not len(lengths):  # all of them were dropped
        return lengths
    firsts = _strung(lengths, options.num_slots)
    items = np.add.reduceat(lengths, firsts)
    counts = np.diff(firsts, append=len(lengths))
    quantum = math.gcd(options.num_slots, int(np.gcd.reduce(items, initial=0)))  # fewer rooms to tell apart
    crumb = int(np.quantile(lengths, _CRUMB, method="lower")) // quantum
    sequence_of = best_fit((items // quantum).tolist(), options.num_slots // quantum, crumb)
    return np.repeat(np.array(sequence_of, np.int32), counts)


def _strung(lengths: Int32, num_slots: int) -> Int64:
    """Where items begin: a string of units that leaves room for `_SINGLES`, then as many single ones."""
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


def best_fit(lengths: list[int], capacity: int, crumb: int) -> list[int]:
    """On-line best fit: the bin of each length, in the order in which they come.

    Bins lie on stacks by the room left in them; a bit of `rooms` says which stacks hold any. Taking
    each as it comes keeps a bin's contents random: sorted by length, it would hold equal ones.
    """
    stacks: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms, num_bins, open_room, to_come = 0, 0, 0, sum(lengths)
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
        left = room - length
        if left:
            if not stacks[left]:
                rooms |= 1 << left
            stacks[left].append(chosen)
    return bins
