"""Where the bars of a histogram begin and end, and the numbers at its axes."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_MOST_BARS, _MOST_LABELS, _MOST_TICKS = 24, 8, 5
_TAIL = 0.995  # of the values; longer ones share the last bar
_FINEST = 100  # bars from 0 to the longest value would be the narrowest


@dataclass(frozen=True, kw_only=True, slots=True)
class Bins:
    """Intervals side by side, of one round width; the more of them the more values there are.

    Attributes:
        first: where the first begins, in widths.
        width: 1, 2 or 5 times a power of ten; whole where the values are.
        count: how many there are.
        is_single: each holds one whole number.
        is_open: the last one holds longer values, too: the longest half percent share it.
    """

    first: float
    width: float
    count: int
    is_single: bool
    is_open: bool

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "Bins":
        """Choose the bins of some values, at least one."""
        is_whole = values.dtype.kind in "iu"
        numbers = values.astype(np.float64)
        lowest, longest = float(numbers.min()), float(np.quantile(numbers, _TAIL, method="higher"))
        wanted = min(math.ceil(2 * len(numbers) ** (1 / 3)), _MOST_BARS)
        finest = max(longest / _FINEST, 1 if is_whole else 1e-3)
        width = round_up(max((longest - lowest) / wanted, finest))
        first = lowest // width
        count = int(longest // width - first) + 1
        return cls(
            first=first,
            width=width,
            count=count,
            is_single=is_whole and width == 1,
            is_open=bool(numbers.max() // width - first >= count),
        )

    def places(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the bin of each value, from 0."""
        places = values.astype(np.float64) // self.width - self.first
        return np.minimum(places, self.count - 1).astype(np.int64)

    def edge(self, number: int) -> float:
        """Where a bin begins."""
        return (self.first + number) * self.width

    def labels(self) -> dict[int, str]:
        """Numbers for an axis, a few: where bins begin and the last one ends, or what a single one holds."""
        every = -(-(self.count + 1) // _MOST_LABELS)
        ends = 0 if self.is_single or self.is_open else 1
        labels = {i: number(self.edge(i)) for i in range(0, self.count + ends, every)}
        if self.is_open:
            labels = {i: label for i, label in labels.items() if i + every < self.count}
            labels[self.count - 1] = f"{number(self.edge(self.count - 1))}+"
        return labels


def round_up(step: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(step))
    return float(next(times * power for times in (1, 2, 5, 10) if times * power >= step * (1 - 1e-9)))


def number(value: float) -> str:
    """Write a number of an axis."""
    return f"{value:,.6g}" if value < 1e5 else f"{value:,.0f}"


def ticks(most: int) -> range:
    """Return a few whole numbers for an axis of counts, evenly apart: from 0 to `most`, or a little more."""
    step = int(round_up(max(most / _MOST_TICKS, 1)))
    return range(0, most + step, step)
