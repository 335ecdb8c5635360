"""Segments, what a plan moves and resets as one: a conversation where the task is whole, else a row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from speechrows.errors import UsageError
from speechrows.loader.plan.order import OF_ROWS
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import expanded
from speechrows.loader.plan.order import shuffled
from speechrows.loader.plan.values import TICKS_PER_SECOND
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.loader.plan.windows import by_window
from speechrows.loader.plan.windows import windows
from speechrows.types import Int32

Name = Callable[[int], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Segments:
    """The segments of an epoch, shuffled: their rows (the first, how many), their lengths with pads."""

    firsts: Int32
    counts: Int32
    slots: Int32
    windows: Int32 | None  # of each, in the order of the segments
    num_dropped: int  # rows


@dataclass(frozen=True, kw_only=True, slots=True)
class ConcatenatedRows:
    """R rows of G segments, one after another, with the slots of each: its tokens and the pads behind it.

    `before` [R+1] are the slots before each row, then their sum; `edges` [G+1] are the places in `rows`
    where segments begin, and the end.
    """

    rows: Int32
    num_tokens: int  # in all
    before: Int64
    edges: Int32

    def positions(self) -> Int32:
        """The slots of its segment that stand before each row."""
        return _since(self.before, self.edges[:-1], np.diff(self.edges))

    def starts(self, begins: Int64, ends: Int64) -> Int32:
        """Each row's first slot in its sequence; `begins` and `ends` are the rows of sequences, in order."""
        return _since(self.before, begins, ends - begins)


def segment_firsts(rows: PlanRows) -> Int32:
    """The first row of each segment, in file order."""
    changes = np.ones(len(rows), bool)
    np.not_equal(rows.conversations[1:], rows.conversations[:-1], out=changes[1:])
    changes |= np.logical_not(rows.whole)
    return np.flatnonzero(changes).astype(np.int32)


def draw(rows: PlanRows, options: PlanOptions, epoch: int, name: Name, *, undivided: bool) -> Segments:
    """The epoch's segments in random order, window by window, without those too long for the context.

    A segment is too long if one of its rows is; where it must stay `undivided`, if all of it is.

    Raises:
        UsageError: one is too long, and `too_long` is "error".
    """
    firsts = segment_firsts(rows)
    counts = np.diff(firsts, append=np.int32(len(rows)))
    slots = np.add.reduceat(row_slots(rows.num_tokens, options), firsts, dtype=np.int32)
    slots = _multiple(slots, options.pad_to_multiple_of)
    lengths = slots if undivided else np.maximum.reduceat(rows.num_tokens, firsts)
    fits = lengths <= options.num_slots
    if not fits.all() and options.too_long == "error":
        worst = int(lengths.argmax())
        needed = int(_multiple(lengths[worst], options.pad_to_multiple_of))
        what = "a conversation" if undivided and counts[worst] > 1 else "a row"
        problem = f"{what} of {lengths[worst]} tokens, the longest of {np.sum(~fits)} that are too long"
        row = int(firsts[worst])
        if not undivided:
            row += int(rows.num_tokens[row : row + int(counts[worst])].argmax())
        raise _too_long(name(row), problem, "context", options.context, needed)
    order = np.flatnonzero(fits).astype(np.int32)
    order = order[shuffled(len(order), options.seed, epoch, OF_ROWS)]
    window_of = windows(rows, options, epoch)  # a segment's is that of its first row
    if window_of is not None:
        order = by_window(order, window_of[firsts[order]])
    return Segments(
        firsts=firsts[order],
        counts=counts[order],
        slots=slots[order],
        windows=None if window_of is None else window_of[firsts[order]],
        num_dropped=len(rows) - int(counts[fits].sum()),
    )


def concatenate(rows: PlanRows, firsts: Int32, counts: Int32, options: PlanOptions) -> ConcatenatedRows:
    """The rows of segments, one segment after another, padded as `close_on` says."""
    numbers = expanded(firsts, counts)
    num_tokens = rows.num_tokens[numbers]
    slots = row_slots(num_tokens, options)
    edges = np.append(np.int32(0), np.cumsum(counts, dtype=np.int32))
    total = int(num_tokens.sum(dtype=np.int64))
    if options.close_on == "conversation" and options.pad_to_multiple_of > 1 and len(numbers):
        totals = np.add.reduceat(slots, edges[:-1])
        slots[edges[1:] - 1] += -totals % options.pad_to_multiple_of
    before = np.zeros(len(numbers) + 1, np.int64)
    np.cumsum(slots, out=before[1:])
    return ConcatenatedRows(rows=numbers, num_tokens=total, before=before, edges=edges)


def row_slots(num_tokens: Int32, options: PlanOptions) -> Int32:
    """The slots of rows inside a segment: with their padding only if each turn is closed."""
    multiple = options.pad_to_multiple_of if options.close_on == "turn" else 1
    return _multiple(num_tokens, multiple)


def without_too_long(
    rows: PlanRows, lengths: npt.NDArray[np.integer], options: PlanOptions, name: Name
) -> Int32:
    """The rows that fit into a batch's budget, in file order.

    Raises:
        UsageError: one does not, and `too_long` is "error".
    """
    fits = lengths <= options.budget
    if not fits.all() and options.too_long == "error":
        worst = int(lengths.argmax())
        what = "conversations" if options.mode == "conversations" else "rows"
        problem = f"the longest of {np.sum(~fits)} {what} too long"
        if options.budget_tokens is not None:
            needed: float = int(lengths[worst])
            problem = f"{needed} tokens, {problem}"
            raise _too_long(name(worst), problem, "budget_tokens", options.budget_tokens, needed)
        needed = int(lengths[worst]) / TICKS_PER_SECOND
        problem = f"{rows.ticks[worst] / TICKS_PER_SECOND:g} s, {problem}"
        raise _too_long(name(worst), problem, "budget_seconds", options.budget_seconds, needed)
    return np.flatnonzero(fits).astype(np.int32)


def _since(before: Int64, begins: Any, counts: Any) -> Int32:
    """The slots between the begin of each row's range and the row; the ranges follow one another."""
    since = before[:-1].astype(np.int32)  # this may wrap around, and the difference back
    since -= np.repeat(before[begins].astype(np.int32), counts)
    return since


def _multiple(lengths: Any, multiple: int) -> Any:
    return lengths if multiple == 1 else -(-lengths // multiple) * multiple


def _too_long(row: str, problem: str, option: str, limit: float | None, needed: float) -> UsageError:
    return UsageError(
        f"{row}: {problem}; {option} is {limit:g}. The least that fits is {option}={needed:g}; "
        "too_long='drop' leaves such out and counts them"
    )
