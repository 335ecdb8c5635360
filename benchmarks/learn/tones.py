"""Sounds whose name is heard at once: a tone for each letter, a hum, noise."""

from typing import Any

import numpy as np
import numpy.typing as npt
from learn.corpus import Samples

LETTERS = "abcdefgh"
RATE = 16_000


def hertz_of(numbers: int | npt.NDArray[np.integer[Any]]) -> Any:
    """The pitches of letters, by their numbers."""
    return 300 * 1.35 ** np.asarray(numbers)


def tone(letter: str, seconds: float, generator: np.random.Generator) -> Samples:
    """The tone of a letter, a little out of tune, in a little noise."""
    return _tone(hertz_of(LETTERS.index(letter)), seconds, generator)


def hum(seconds: float, generator: np.random.Generator) -> Samples:
    """A tone below those of all letters."""
    return _tone(150.0, seconds, generator)


def noise(seconds: float, generator: np.random.Generator) -> Samples:
    """A little noise."""
    return generator.standard_normal(int(RATE * seconds)) * 0.02


def _tone(hertz: float, seconds: float, generator: np.random.Generator) -> Samples:
    around = noise(seconds, generator)
    hertz *= 1 + 0.01 * generator.standard_normal()
    phase = generator.uniform(0, 2 * np.pi)
    return around + 0.3 * np.sin(2 * np.pi * hertz * np.arange(len(around)) / RATE + phase)
