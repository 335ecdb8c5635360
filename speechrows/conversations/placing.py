"""Where turns lie in the channels of their sides, when their rows tell it, and when not."""

import math
from collections.abc import Hashable
from collections.abc import Iterable
from dataclasses import dataclass

from speechrows.audio.slices import to_samples

MOVED = "turns moved behind the one before of their side, which they overlapped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A turn in the channel of its side: its first sample, and the second at which it begins."""

    first: int
    start_s: float
    is_moved: bool


def known_start(start_s: float | None) -> float | None:
    """When a turn begins; None where its row does not tell, or tells no time."""
    return start_s if start_s is not None and math.isfinite(start_s) and start_s >= 0 else None


def places(turns: Iterable[tuple[Hashable, float | None, int]], rate_hz: int, gap_s: float) -> list[Place]:
    """The place of each turn (its side, its start if that is known, its samples), in the order given.

    The first begins at 0 where that is not told, others `gap_s` after all before them. One that overlaps the
    one before of its side begins after it: a channel has one voice.
    """
    result, last = list[Place](), 0
    free: dict[Hashable, int] = {}  # where a side's last turn has ended
    for side, given, num_samples in turns:
        start = given
        if start is None:
            first = last + to_samples(gap_s, rate_hz) if result else 0
            start = first / rate_hz
        else:
            first = int(to_samples(start, rate_hz))
        after = free.get(side, 0)
        is_moved = first < after - 1  # of one sample, it is rounding
        if is_moved:
            start = after / rate_hz
        first = max(first, after)
        free[side] = first + num_samples
        last = max(last, first + num_samples)
        result.append(Place(first=first, start_s=start, is_moved=is_moved))
    return result
