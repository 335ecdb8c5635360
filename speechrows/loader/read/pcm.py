"""A clip's bytes to int16 samples: as they are where they are mono PCM 16 WAV, else by libsndfile."""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from speechrows import audio
from speechrows.errors import BadClipError
from speechrows.types import Int16
from speechrows.types import Reason

UInt8 = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer[Any]]

SHORTEST_HEAD, LONGEST_HEAD = 44, 256  # bytes before the samples of a WAV that is read as it is
_HEAD = np.frombuffer(
    struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 0, 0, 2, 16), "<u4"
)
_DATA = int.from_bytes(b"data", "little")


def may_be_plain(lengths: Ints, num_samples: Ints) -> Bools:
    """Which clips [N] of these bytes and samples have the size of mono PCM 16 WAV: a head and the samples."""
    heads = lengths - 2 * num_samples
    return (heads >= SHORTEST_HEAD) & (heads <= LONGEST_HEAD)


def are_plain(heads: UInt8, sizes: Ints, num_samples: Ints, sampling_rates: Ints) -> Bools:
    """Which clips [N] are mono PCM 16 WAV whose samples begin right after their head.

    `heads` [N, W] are the first bytes of each clip; `sizes` [N], from 44 to W, of them precede the samples.
    Between `fmt ` and `data` a head may have one other chunk, as ffmpeg writes it.
    """
    words = heads[:, :SHORTEST_HEAD].view("<u4")
    expected = np.empty((len(heads), 9), "<u4")
    expected[:] = _HEAD
    expected[:, 1] = words[:, 1]  # the size of the whole: programs that stream leave it open
    expected[:, 6], expected[:, 7] = sampling_rates, 2 * sampling_rates
    plain = (words[:, :9] == expected).all(axis=1)
    data = words[:, 9:]
    if (sizes > SHORTEST_HEAD).any():
        ends = np.arange(len(heads)) * heads.shape[1] + sizes
        data = heads.ravel().take(ends[:, None] + np.arange(-8, 0)).view("<u4")
        chunk = words[:, 10]
        plain &= (sizes == SHORTEST_HEAD) | (chunk + (chunk & 1) == sizes - SHORTEST_HEAD - 8)
    return plain & (data[:, 0] == _DATA) & (data[:, 1] == 2 * num_samples)


def to_samples(data: memoryview, num_samples: int, sampling_rate: int) -> Int16:
    """The samples of a clip, one channel [S], rounded and clipped; channels are averaged.

    Raises:
        BadClipError: it is not audio, or has another number of samples or another rate.
    """
    lengths, samples = np.array([len(data)]), np.array([num_samples])
    if may_be_plain(lengths, samples)[0]:
        head = len(data) - 2 * num_samples
        heads = np.frombuffer(data, np.uint8, head)[None]
        if are_plain(heads, lengths - 2 * samples, samples, np.array([sampling_rate]))[0]:
            return np.frombuffer(data, "<i2", offset=head)
    return _decode(data, num_samples, sampling_rate)


def _decode(data: memoryview, num_samples: int, sampling_rate: int) -> Int16:
    samples, num_read = np.empty(num_samples, np.int16), 0
    with audio.opened(data) as file:
        rate = file.samplerate
        for block in audio.blocks(file, audio.exact_dtype(file)):
            room = samples[num_read : num_read + len(block)]
            room[:] = audio.to_mono(block)[: len(room)]
            num_read += len(block)
    if (num_read, rate) != (num_samples, sampling_rate):
        expected = f"expected {num_samples} at {sampling_rate} Hz"
        raise BadClipError(Reason.UNDECODABLE, f"found {num_read} samples at {rate} Hz, {expected}")
    return samples
