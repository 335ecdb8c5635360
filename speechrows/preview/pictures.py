"""A clip as pictures: its waveform, its log-mel, its codes. Each spans its own time from left to right.

The waveform is an SVG path, coloured by the page; the others are small PNGs of 256 colours.
"""

import base64
import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from transformers.audio_utils import mel_filter_bank

from speechrows.types import Int16

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_WAVE_COLUMNS = 900
_MEL_COLUMNS, _MEL_BINS, _MEL_RANGE_DB = 900, 80, 75.0
# From silence to the loudest: night, indigo, teal, amber, cream. Lightness rises all the way.
_ANCHORS = ((11, 14, 33), (41, 42, 110), (22, 108, 138), (70, 172, 132), (238, 190, 92), (255, 248, 222))


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPictures:
    """A clip's pictures, and how loud it is, in dB below full scale (None: silence)."""

    wave: str  # of an SVG path, in a box of `columns` by 2, zero at 1
    columns: int
    mel: str  # a data URI
    seconds: float
    channels: int
    peak_db: float | None
    rms_db: float | None


def draw(samples: Float32, rate: int) -> ClipPictures:
    """Draw samples [S, channels] in [-1, 1] at `rate` Hz."""
    mono = samples.mean(axis=1, dtype=np.float32)
    wave, columns = waveform(mono)
    return ClipPictures(
        wave=wave,
        columns=columns,
        mel=png(log_mel(mono, rate)),
        seconds=len(samples) / rate,
        channels=samples.shape[1],
        peak_db=_decibels(np.abs(samples).max(initial=0)),
        rms_db=_decibels(np.sqrt(np.mean(samples**2, dtype=np.float64))),
    )


def _decibels(value: float) -> float | None:
    return round(float(20 * np.log10(value)), 1) + 0.0 if value > 0 else None  # no -0.0


def waveform(mono: Float32) -> tuple[str, int]:
    """Return the outline of a clip [S] as an SVG path, scaled to its peak, and its number of columns."""
    columns = min(_WAVE_COLUMNS, max(len(mono), 1))
    starts = np.arange(columns) * len(mono) // columns
    values = mono if len(mono) else np.zeros(1, np.float32)
    high, low = np.maximum.reduceat(values, starts), np.minimum.reduceat(values, starts)
    scale = 0.94 / max(float(np.abs(values).max()), 1e-6)
    top = [f"{x},{1 - y * scale:.3f}" for x, y in enumerate(high.tolist())]
    bottom = [f"{x},{1.012 - y * scale:.3f}" for x, y in enumerate(low.tolist())]
    return f"M{' '.join(top)} {' '.join(reversed(bottom))}Z", columns


def log_mel(mono: Float32, rate: int) -> UInt8:
    """Return the log-mel of a clip [S]: brightness [M, columns], low tones below, its loudest at 255."""
    size = 1 << int(np.ceil(np.log2(0.04 * rate)))
    hop = max(rate // 100, -(-len(mono) // _MEL_COLUMNS))
    padded = np.pad(mono, (size // 2, size))
    frames = sliding_window_view(padded, size)[: max(len(mono), 1) : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)) ** 2
    decibels = 10 * np.log10(np.maximum(power @ _filters(size, rate), 1e-10))
    level = (decibels - decibels.max()) / _MEL_RANGE_DB + 1
    silent = decibels.max() <= -99
    return np.flipud((np.clip(level, 0, 1) * (0 if silent else 255)).astype(np.uint8).T)


@lru_cache(8)
def _filters(size: int, rate: int) -> npt.NDArray[np.float64]:
    return mel_filter_bank(
        num_frequency_bins=size // 2 + 1,
        num_mel_filters=_MEL_BINS,
        min_frequency=0.0,
        max_frequency=rate / 2,
        sampling_rate=rate,
    )


def code_map(codes: Int16, cardinality: int) -> str:
    """Draw codes [K, F] as a PNG of a pixel a frame, the first codebook on top; the page enlarges it."""
    return png((codes.astype(np.int64) * 255 // max(cardinality - 1, 1)).clip(0, 255).astype(np.uint8))


@lru_cache(1)
def _palette() -> bytes:
    at = np.linspace(0, 255, len(_ANCHORS))
    bands = [np.interp(np.arange(256), at, [anchor[band] for anchor in _ANCHORS]) for band in range(3)]
    return np.stack(bands, axis=1).astype(np.uint8).tobytes()


def png(levels: UInt8) -> str:
    """Encode levels [height, width] as a data URI of a PNG."""
    image = Image.fromarray(np.ascontiguousarray(levels))
    image.putpalette(_palette())
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
