"""Most clips are plain PCM WAV with nothing wrong: that is seen without decoding them."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from speechrows.validation.row import CLIPPED
from speechrows.validation.row import CLIPPED_SHARE
from speechrows.validation.row import SILENCE

_HEAD = struct.Struct("<4sI4s4sIHHIIHH4sI")
_FULL_SCALE = 32_768


def is_plainly_sound(row: Mapping[str, Any]) -> bool:
    """True for a row whose clip is PCM 16 WAV and keeps every promise that `row.sound` checks.

    False says nothing: that check then tells what is wrong, if anything is.
    """
    data: bytes = row["audio"]["bytes"]
    if row["target_audio"] is not None or len(data) <= _HEAD.size:
        return False
    riff, _, wave, fmt, size, tag, channels, rate, _, frame, bits, name, num_bytes = _HEAD.unpack_from(data)
    is_plain = (riff, wave, fmt, size, tag, bits, name) == (b"RIFF", b"WAVE", b"fmt ", 16, 1, 16, b"data")
    if not is_plain or not channels or frame != 2 * channels or _HEAD.size + num_bytes > len(data):
        return False
    says = (row["num_samples"] * frame, row["sampling_rate"])
    if says != (num_bytes, rate) or not row["audio"]["path"].endswith(".wav"):
        return False
    samples = np.frombuffer(data, "<i2", num_bytes // 2, _HEAD.size)
    low, high = int(samples.min()), int(samples.max())
    peak = max(-low, high) / _FULL_SCALE
    if peak >= CLIPPED:
        at_full_scale = np.abs(samples.astype(np.int32)) >= CLIPPED * _FULL_SCALE
        if at_full_scale.mean() > CLIPPED_SHARE:
            return False
    return peak >= SILENCE
