"""Clips of one side of a conversation as one channel, sample-exact, with silence between them."""

import io
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechrows.audio.samples import BLOCK
from speechrows.audio.samples import blocks
from speechrows.audio.samples import exact_dtype
from speechrows.audio.samples import opened
from speechrows.audio.samples import to_mono
from speechrows.audio.wav import pcm_head
from speechrows.conversations.records import Sound
from speechrows.errors import BadClipError
from speechrows.types import Reason

_DEEP = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # FLAC holds 24 bits of them
_HIGHEST_RATE_HZ = 655_350  # that FLAC has
_24_BITS = 1 << 23


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipForm:
    """What a clip's header says of its samples; `num_samples` are those of one channel."""

    rate_hz: int
    num_samples: int
    num_channels: int
    subtype: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlacedClip:
    """A clip in a channel, from sample `first` on."""

    clip: Sound
    form: ClipForm
    first: int

    @property
    def stop(self) -> int:
        """The sample after its last."""
        return self.first + self.form.num_samples


def form_of(clip: Sound) -> ClipForm:
    """What a clip's header says.

    Raises:
        BadClipError: libsndfile does not open it, or FLAC has no such rate.
    """
    with opened(clip.data) as file:
        if file.samplerate > _HIGHEST_RATE_HZ:
            raise BadClipError(
                Reason.UNDECODABLE, f"is of {file.samplerate} Hz, expected at most {_HIGHEST_RATE_HZ}: FLAC's"
            )
        return ClipForm(
            rate_hz=file.samplerate,
            num_samples=file.frames,
            num_channels=file.channels,
            subtype=file.subtype,
        )


def flac_of(clips: Sequence[PlacedClip], num_samples: int, rate_hz: int) -> bytes:
    """A channel with its clips, which follow one another: FLAC of 24 bits where one has more than 16.

    Several channels of a clip are averaged; floats, and 32 bits, are rounded to 24, what is lossy to 16.

    Raises:
        BadClipError: a clip does not decode to its end.
    """
    is_deep, buffer = _are_deep(clips), io.BytesIO()
    subtype = "PCM_24" if is_deep else "PCM_16"
    with soundfile.SoundFile(buffer, "w", rate_hz, 1, subtype, format="FLAC") as channel:
        for samples in _pieces(clips, num_samples, is_deep=is_deep):
            channel.write(samples)
    return buffer.getvalue()


def wav_size(channels: Sequence[Sequence[PlacedClip]], num_samples: int) -> int:
    """How many bytes of samples a WAV of these channels has."""
    return num_samples * len(channels) * (3 if any(map(_are_deep, channels)) else 2)


def write_wav(path: Path, channels: Sequence[Sequence[PlacedClip]], num_samples: int, rate_hz: int) -> None:
    """Write channels, each of clips that follow one another, as a WAV: 24 bits where one has more than 16.

    Raises:
        BadClipError: a clip does not decode to its end.
    """
    is_deep = any(map(_are_deep, channels))
    sides = [_blocks(_pieces(clips, num_samples, is_deep=is_deep)) for clips in channels]
    with path.open("wb") as file:  # not by libsndfile, which does not tell a full disk from other faults
        file.write(pcm_head(wav_size(channels, num_samples), len(sides), 3 if is_deep else 2, rate_hz))
        for together in zip(*sides, strict=True):
            samples = np.stack(together, axis=1)
            if is_deep:  # the upper three of four bytes
                file.write(samples.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes())
            else:
                file.write(samples.astype("<i2").tobytes())


def _are_deep(clips: Sequence[PlacedClip]) -> bool:
    return any(clip.form.subtype in _DEEP for clip in clips)


def _pieces(clips: Sequence[PlacedClip], num_samples: int, *, is_deep: bool) -> Iterator[Any]:
    """The samples of a channel, as they come: those of its clips, and silence."""
    at = 0
    for placed in clips:
        yield from _silence(placed.first - at, is_deep=is_deep)
        at = placed.first
        with opened(placed.clip.data) as file:
            for samples in _mono(file, is_deep=is_deep):
                yield samples
                at += len(samples)
        if at != placed.stop:
            raise BadClipError(
                Reason.TRUNCATED,
                f"{placed.clip.name}: found {at - placed.first} samples, expected "
                f"{placed.form.num_samples}: build the rows again",
            )
    yield from _silence(num_samples - at, is_deep=is_deep)


def _silence(num_samples: int, *, is_deep: bool) -> Iterator[Any]:
    while num_samples > 0:
        yield np.zeros(min(BLOCK, num_samples), np.int32 if is_deep else np.int16)
        num_samples -= BLOCK


def _blocks(pieces: Iterable[Any]) -> Iterator[Any]:
    """Pieces as blocks of one length, the last of which may be shorter."""
    waiting, size = list[Any](), 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        while size >= BLOCK:
            joined = np.concatenate(waiting)
            yield joined[:BLOCK]
            waiting, size = [joined[BLOCK:]], size - BLOCK
    if size:
        yield np.concatenate(waiting)


def _mono(file: soundfile.SoundFile, *, is_deep: bool) -> Iterator[Any]:
    """The samples of a clip: int16 [S], or int32 [S] with 24 bits at the top."""
    if not is_deep:
        yield from map(to_mono, blocks(file, exact_dtype(file)))
    elif file.channels == 1 and file.subtype.startswith("PCM") and file.subtype != "PCM_32":
        for block in blocks(file, "int32"):
            yield block[:, 0]
    else:
        for block in blocks(file, "float64"):
            rounded = np.rint(block.mean(axis=1) * _24_BITS)
            yield np.clip(rounded, -_24_BITS, _24_BITS - 1).astype(np.int32) << 8
