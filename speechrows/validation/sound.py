"""Checks of how a row's clip sounds; most clips are plain WAV, in which that is seen without decoding."""

import struct
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

from speechrows import audio
from speechrows.errors import BadClipError

SILENCE = 0.001  # full scale is 1: a clip whose loudest sample is below -60 dB says nothing
CLIPPED, CLIPPED_SHARE = 0.999, 0.01

_HEAD = struct.Struct("<4sI4s4sIHHIIHH4sI")
_FULL_SCALE = 32_768

RowDict = Mapping[str, Any]


def sound(row: RowDict) -> list[tuple[str, str]]:
    """Audio decodes to finite samples, as many as the row says, neither silent, once mixed, nor clipped.

    Returns (check, detail) of what fails: several checks share one decoding.
    """
    faults = list[tuple[str, str]]()
    if row["audio"] is not None:
        faults += _of_clip(row)
    if row["target_audio"] is not None:
        try:
            _hear(row["target_audio"]["bytes"])
        except BadClipError as error:
            faults.append(("audio decodes", f"target_audio: {error.detail}"))
    return faults


def _of_clip(row: RowDict) -> list[tuple[str, str]]:
    data, faults = row["audio"]["bytes"], list[tuple[str, str]]()
    try:
        heard = _hear(data)
        facts = audio.inspect(memoryview(data))
    except BadClipError as error:
        return [("audio decodes", error.detail)]
    if facts is None:
        detail = "its header does not say what follows, so that readers differ in what they read of it"
        faults.append(("audio decodes", f"{detail}. Build it again"))
    elif not row["audio"]["path"].endswith(facts.extension):
        faults.append(("audio decodes", f"path {row['audio']['path']!r} does not tell the format"))
    if (heard.num_samples, heard.rate) != (row["num_samples"], row["sampling_rate"]):
        detail = (
            f"holds {heard.num_samples} samples at {heard.rate} Hz, the row says {row['num_samples']} "
            f"at {row['sampling_rate']} Hz"
        )
        faults.append(("audio length", detail))
    if not np.isfinite(heard.peak):
        faults.append(("finite audio", "holds samples that are not finite"))
    elif heard.mixed_peak < SILENCE:
        mixed = ", its channels mixed" if heard.peak >= SILENCE else ""
        faults.append(("silence", f"the loudest sample is {heard.mixed_peak:.5f} of full scale{mixed}"))
    if heard.clipped > CLIPPED_SHARE:
        faults.append(("clipping", f"{heard.clipped:.1%} of the samples are at full scale"))
    return faults


class _Heard(NamedTuple):
    """A clip as it sounds: `peak` is the loudest sample of its channels, `mixed_peak` that of their mean."""

    num_samples: int
    rate: int
    peak: float
    mixed_peak: float
    clipped: float


def _hear(data: bytes) -> _Heard:
    """Decode a clip a block at a time, as a model hears it: the mean of its channels.

    Raises:
        BadClipError: it does not decode.
    """
    num_samples, peak, mixed_peak, clipped = 0, 0.0, 0.0, 0
    with audio.opened(data) as file:
        for block in audio.blocks(file):
            loudness = np.abs(block)
            num_samples += len(block)
            clipped += np.count_nonzero(loudness >= CLIPPED)
            peak = float(np.maximum(peak, loudness.max()))  # of what is no number, none
            mixed_peak = float(np.maximum(mixed_peak, np.abs(block.mean(axis=1)).max()))
        share = clipped / max(num_samples * file.channels, 1)
        return _Heard(num_samples, file.samplerate, peak, mixed_peak, share)


def is_plainly_sound(row: RowDict) -> bool:
    """True for a row whose clip, if any, is mono PCM 16 WAV and keeps every promise that `sound` checks.

    False says nothing: that check then tells what is wrong, if anything is.
    """
    clip, answer = row["audio"], row["target_audio"]
    if clip is None or answer is not None or len(clip["bytes"]) <= _HEAD.size:
        return clip is None and answer is None
    data: bytes = clip["bytes"]
    riff, _, wave, fmt, size, tag, channels, rate, _, _, bits, name, num_bytes = _HEAD.unpack_from(data)
    form = (riff, wave, fmt, size, tag, channels, bits, name)
    # Of several channels the mix is heard; what lies behind the samples may be sound, too.
    if form != (b"RIFF", b"WAVE", b"fmt ", 16, 1, 1, 16, b"data") or _HEAD.size + num_bytes != len(data):
        return False
    says = (row["num_samples"] * 2, row["sampling_rate"])
    if says != (num_bytes, rate) or not row["audio"]["path"].endswith(".wav"):
        return False
    try:
        audio.inspect(memoryview(data))
    except BadClipError:
        return False
    samples = np.frombuffer(data, "<i2", num_bytes // 2, _HEAD.size)
    low, high = int(samples.min()), int(samples.max())
    peak = max(-low, high) / _FULL_SCALE
    if peak >= CLIPPED:
        at_full_scale = np.abs(samples.astype(np.int32)) >= CLIPPED * _FULL_SCALE
        if at_full_scale.mean() > CLIPPED_SHARE:
            return False
    return peak >= SILENCE
