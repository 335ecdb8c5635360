"""Clips decoded by libsndfile, a block at a time: whatever a clip's length, memory stays flat."""

import io
import os
import threading
from collections.abc import Generator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from typing import Literal

import numpy as np
import numpy.typing as npt
import soundfile

from speechrows.audio.facts import undecodable
from speechrows.types import Int16

BLOCK = 1 << 18  # samples of a channel
MAX_SAMPLES = 1 << 62
LOSSY = ("VORBIS", "OPUS", "MPEG_LAYER_III")  # may decode beyond full scale
_FULL_SCALE = 1 << 15


def _unlock() -> None:
    """In a fork, open clips though another thread of the parent was opening one."""
    setattr(soundfile.SoundFile, "_sf_error_lock", threading.Lock())  # noqa: B010  # of soundfile 0.14


os.register_at_fork(after_in_child=_unlock)


def is_read_by_libsndfile(data: bytes | memoryview) -> bool:
    """Whether libsndfile opens a clip; it may fail on its samples all the same."""
    try:
        soundfile.info(io.BytesIO(data))
    except soundfile.SoundFileError:
        return False
    return True


@contextmanager
def opened(data: bytes | memoryview) -> Generator[soundfile.SoundFile]:
    """Open a clip; what goes wrong while it is read is raised as a BadClipError."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            yield file
    except (soundfile.SoundFileError, ValueError) as error:
        raise undecodable(memoryview(data), error) from error


def blocks(
    file: soundfile.SoundFile,
    dtype: Literal["float32", "float64", "int16", "int32"] = "float32",
    num_samples: int | None = None,
) -> Iterator[Any]:
    """The samples of a clip, [S, channels], up to the first place that does not decode; or the next few.

    libsndfile can be asked to go on behind it: what it then gives, no other reader gives.
    """
    rest = MAX_SAMPLES if num_samples is None else num_samples
    while rest:
        size = min(BLOCK, rest)
        block = file.read(size, dtype=dtype, always_2d=True)
        rest = rest - size if len(block) == size else 0
        if len(block):
            yield block


def decode(data: bytes | memoryview) -> tuple[npt.NDArray[np.float32], int]:
    """Decode a clip: float32 [S, channels] in [-1, 1], and its rate in Hz.

    Raises:
        BadClipError: libsndfile can not decode it.
    """
    with opened(data) as file:
        return np.concatenate([np.empty((0, file.channels), np.float32), *blocks(file)]), file.samplerate


def exact_dtype(file: soundfile.SoundFile) -> Literal["int16", "float64"]:
    """The type in which a clip is read to be mixed: libsndfile would truncate, and wrap around, integers."""
    return "int16" if file.subtype == "PCM_16" else "float64"


def to_mono(block: npt.NDArray[Any]) -> Int16:
    """What a model hears of samples [S, channels]: their mean as int16 [S], rounded and clipped."""
    if block.dtype == np.int16 and block.shape[1] == 1:
        return block[:, 0]
    scale = 1 if block.dtype == np.int16 else _FULL_SCALE
    mixed = block.mean(axis=1, dtype=np.float64)
    np.rint(np.multiply(mixed, scale, out=mixed), out=mixed)
    return np.clip(mixed, -_FULL_SCALE, _FULL_SCALE - 1, out=mixed).astype(np.int16)
