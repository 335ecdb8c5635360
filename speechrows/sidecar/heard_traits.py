"""Pace and volume of clips, by what was measured of all clips of a sidecar."""

import math
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from speechrows.corpora import traits
from speechrows.types import Traits

# What is heard as another: a tempo that differs by a tenth, a level by 1.5 dB.
_LEAST_RATIO, _LEAST_DB = 1.1, 1.5


@dataclass(frozen=True, kw_only=True, slots=True)
class TraitLimits:
    """Below the first number a clip is slow or quiet, above the second fast or loud.

    They are the quartiles of a corpus, and no nearer to its median than is heard: so they depend on the
    clips alone, not on their order.
    """

    pace: tuple[float, float]
    volume: tuple[float, float]

    @staticmethod
    def of(speaking_rates: npt.NDArray[np.float32], relative_dbs: npt.NDArray[np.float32]) -> "TraitLimits":
        """The limits of a corpus, of all its clips [N]; NaN where a clip has none."""
        pace, volume = traits.PACE_LIMITS, traits.VOLUME_LIMITS
        rates, dbs = (np.sort(values[np.isfinite(values)]) for values in (speaking_rates, relative_dbs))
        if len(rates):
            middle = float(np.median(rates))
            pace = traits.audible(traits.pace_limits(rates.tolist()), middle, least_ratio=_LEAST_RATIO)
        if len(dbs):
            middle = float(np.median(dbs))
            volume = traits.audible(traits.volume_limits(dbs.tolist()), middle, least_difference=_LEAST_DB)
        return TraitLimits(pace=pace, volume=volume)

    def complete(self, own: Traits, speaking_rate: float | None, relative_db: float | None) -> Traits:
        """A clip's own traits; pace and volume, where it has none, by these limits."""
        return replace(
            own,
            pace=own.pace or traits.pace(_number(speaking_rate), self.pace),
            volume=own.volume or traits.volume(_number(relative_db), self.volume),
        )

    def __str__(self) -> str:
        slow, fast = self.pace
        quiet, loud = self.volume
        return (
            f"slow below {slow:.1f} letters a second of speech, fast above {fast:.1f}; "
            f"quiet below {quiet:.1f} dB, loud above {loud:.1f} dB"
        )


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
