"""The pitch of a voice, by autocorrelation: a clip's mean and its spread.

Boersma's method (the one of Praat): the autocorrelation of each frame over that of its window, the first
of the high peaks. No path is sought through the frames: what is an octave or more off the clip's median is
left out.
"""

from typing import Any
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

RATE_HZ = 16_000
RANGE_HZ = (60, 500)
HOP = 320  # samples between frames: 20 ms
_WINDOW = 800  # samples of a frame: three periods of the lowest pitch
_SIZE = 2048  # of the transform: no frame wraps around
_FRAMES_AT_ONCE = 1024
_PERIODIC = 0.5  # a frame whose autocorrelation is lower at its best lag is unvoiced
_OCTAVE_COST = 0.05  # what a lag of twice the length has to be better by
_MOST_RATIO = 1.6  # to the median, of frames that count

_LAGS = np.arange(RATE_HZ // RANGE_HZ[1], RATE_HZ // RANGE_HZ[0] + 1)
_HANN = np.hanning(_WINDOW).astype(np.float32)


def _autocorrelation(frames: Float32) -> npt.NDArray[Any]:
    spectrum = np.fft.rfft(frames, _SIZE)
    return np.fft.irfft(spectrum.real**2 + spectrum.imag**2)[..., : _LAGS[-1] + 2]


_OF_WINDOW = _autocorrelation(_HANN) / _autocorrelation(_HANN)[0]


class Pitch(NamedTuple):
    """The mean and the standard deviation of the pitch of voiced frames, in Hz; 0 where none is voiced."""

    mean_hz: float
    std_hz: float


def pitch_of(samples: Float32, is_speech: npt.NDArray[np.bool_]) -> Pitch:
    """The pitch of a clip, float32 [S] at RATE_HZ; `is_speech` are slots of 10 ms, as of audio.levels."""
    padded = np.pad(samples, _WINDOW // 2)
    starts = np.arange(0, len(samples), HOP)
    slots = np.minimum(starts * 100 // RATE_HZ, len(is_speech) - 1)
    starts = starts[is_speech[slots]]
    voiced = [
        _voiced(padded, starts[at : at + _FRAMES_AT_ONCE]) for at in range(0, len(starts), _FRAMES_AT_ONCE)
    ]
    pitches = np.concatenate([np.empty(0), *voiced])
    if not len(pitches):
        return Pitch(0.0, 0.0)
    middle = np.median(pitches)
    near = pitches[(pitches > middle / _MOST_RATIO) & (pitches < middle * _MOST_RATIO)]
    return Pitch(float(near.mean()), float(near.std()))


def _voiced(padded: Float32, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The pitch of the voiced among the frames that begin at `starts`, in Hz."""
    frames = padded[starts[:, None] + np.arange(_WINDOW)]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * _HANN
    raw = _autocorrelation(frames)
    strength = raw / np.maximum(raw[:, :1], 1e-9) / _OF_WINDOW
    before, at, after = (strength[:, _LAGS + shift] for shift in (-1, 0, 1))
    is_peak = (at > before) & (at >= after)
    score = np.where(is_peak, at - _OCTAVE_COST * np.log2(_LAGS / _LAGS[0]), -np.inf)
    best = score.argmax(axis=1)[:, None]
    is_voiced = is_peak.any(axis=1) & (np.take_along_axis(at, best, 1)[:, 0] > _PERIODIC)
    return (RATE_HZ / _LAGS[best[:, 0]])[is_voiced]
