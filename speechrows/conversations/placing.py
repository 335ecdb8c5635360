"""Where turns lie in the channels of their sides, when their rows tell it, and when not."""

import math
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

from speechrows.audio.slices import to_samples
from speechrows.conversations.turns import SpokenTurn

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrangement:
    """Turns in time at one rate: `order` are their numbers; `places` and `lengths` (samples) follow it."""

    order: Sequence[int]
    places: Sequence[Place]
    lengths: Sequence[int]
    rate_hz: int
    num_samples: int

    def times(self) -> list[tuple[float, float]]:
        """When each begins and ends, in seconds.

        One that was moved by a sample begins at that sample: it overlaps nothing. Ends have 8 digits, as
        lhotse has them: their frames are those of NeMo.
        """
        times = list[tuple[float, float]]()
        for place, length in zip(self.places, self.lengths, strict=True):
            start_s = place.start_s
            if int(to_samples(start_s, self.rate_hz)) != place.first:
                start_s = place.first / self.rate_hz
            times.append((start_s, round(start_s + length / self.rate_hz, 8)))
        return times


def arranged(turns: Sequence[SpokenTurn], sides: Sequence[Hashable], gap_s: float) -> Arrangement:
    """Turns in the order of their times, where all are known; clips of other rates at the highest of them."""
    starts = [known_start(turn.start_s) for turn in turns]
    order = [*range(len(turns))]
    if None not in starts:
        order.sort(key=lambda number: starts[number] or 0.0)
    rate = max((turn.rate_hz or 1 for turn in turns), default=1)
    lengths = [-(-(turns[i].num_samples or 0) * rate // (turns[i].rate_hz or 1)) for i in order]
    at = places(zip([sides[i] for i in order], [starts[i] for i in order], lengths, strict=True), rate, gap_s)
    stops = [place.first + length for place, length in zip(at, lengths, strict=True)]
    return Arrangement(
        order=order, places=at, lengths=lengths, rate_hz=rate, num_samples=max(stops, default=0)
    )
