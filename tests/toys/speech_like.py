"""Sounds whose levels, noise and pitch are known by how they are made."""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

RATE_HZ = 16_000


def tone(seconds: float, hz: float = 200.0, peak: float = 0.5, rate_hz: int = RATE_HZ) -> Float32:
    """A voice that neither pauses nor moves: a tone and its harmonics, softer and softer."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    sound = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 6))
    return (peak * sound / max(np.abs(sound).max(initial=0.0), 1e-9)).astype(np.float32)


def pause(seconds: float, rate_hz: int = RATE_HZ) -> Float32:
    return np.zeros(round(seconds * rate_hz), np.float32)


def noise(like: Float32, power: float, seed: int = 0) -> Float32:
    """White noise of a power, as long as a clip."""
    return np.random.default_rng(seed).normal(0, np.sqrt(power), len(like)).astype(np.float32)
