"""What a clip's bytes are: headers checked, nothing decoded that need not be.

WAV headers are read by struct. FLAC, Opus and MP3 are decoded once by libsndfile to count
their frames, the only way to know that they are whole. What else libsndfile can read is
re-encoded as WAV; the rest is refused.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from speechrows.errors import BadClipError
from speechrows.types import Reason
from speechrows.types import Samples

_EXTENSIONS = {"FLAC": ".flac", "OPUS": ".opus", "MP3": ".mp3"}
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN_SIZE = 0xFFFFFFFF  # what a program writes that streams WAV into a pipe
_BLOCK = 1 << 18


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioFacts:
    """What a header says: `num_samples` counts frames a channel."""

    extension: str
    sampling_rate: int
    num_samples: Samples
    num_channels: int


def inspect(data: memoryview) -> AudioFacts | None:
    """The facts of a clip that is passed through as published; None if it needs re-encoding.

    Raises:
        BadClipError: empty, truncated, undecodable, or without a sample.
    """
    if len(data) == 0:
        raise BadClipError(Reason.EMPTY, "the file is empty; expected audio")
    if bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WAVE":
        return _inspect_wav(data)
    return _inspect_encoded(data)


def _inspect_wav(data: memoryview) -> AudioFacts | None:
    form: tuple[int, int, int, int, int, int] | None = None
    at, end = 12, len(data)
    while at + 8 <= end:
        name, size = bytes(data[at : at + 4]), struct.unpack_from("<I", data, at + 4)[0]
        at += 8
        if name == b"fmt " and size >= 16 and at + 16 <= end:
            form = struct.unpack_from("<HHIIHH", data, at)
            if form[0] == _EXTENSIBLE and size >= 26 and at + 26 <= end:
                form = (struct.unpack_from("<H", data, at + 24)[0], *form[1:])
        elif name == b"data":
            return _wav_facts(form, size, end - at, end)
        at += size + (size & 1)
    raise BadClipError(
        Reason.TRUNCATED if form else Reason.UNDECODABLE,
        f"{end} bytes of WAV without a data chunk: the file is truncated. Download it again",
    )


def _wav_facts(
    form: tuple[int, int, int, int, int, int] | None, promised: int, present: int, total: int
) -> AudioFacts | None:
    if form is None:
        raise BadClipError(Reason.UNDECODABLE, "WAV data before its fmt chunk")
    tag, channels, rate, _, block, bits = form
    if tag not in (_PCM, _FLOAT):
        return None
    if not channels or not rate or block != channels * -(-bits // 8) or bits not in (8, 16, 24, 32, 64):
        raise BadClipError(
            Reason.UNDECODABLE,
            f"WAV header says {channels} channels, {rate} Hz, {bits} bits, {block} bytes a frame",
        )
    if promised == _UNKNOWN_SIZE:
        promised = present
    if promised > present:
        raise BadClipError(
            Reason.TRUNCATED,
            f"is {total} bytes, its header promises {total - present + promised}: the file is "
            "truncated. Download it again, or let --max-skipped drop it",
        )
    return _facts(".wav", rate, promised // block, channels)


def _facts(extension: str, rate: int, num_samples: int, channels: int) -> AudioFacts:
    if num_samples == 0:
        raise BadClipError(Reason.ZERO_SAMPLES, "holds no sample; expected at least one")
    return AudioFacts(
        extension=extension,
        sampling_rate=rate,
        num_samples=Samples(num_samples),
        num_channels=channels,
    )


def _inspect_encoded(data: memoryview) -> AudioFacts | None:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            kind = file.subtype if file.format == "OGG" else file.format
            if kind not in (*_EXTENSIONS, "MPEG_LAYER_III"):
                return None
            promised, rate, channels = file.frames, file.samplerate, file.channels
            found = sum(len(block) for block in _blocks(file))
    except (soundfile.SoundFileError, ValueError) as error:
        raise _undecodable(data, error) from error
    if found < promised or (kind == "OPUS" and not _ogg_is_whole(data)):
        raise BadClipError(
            Reason.TRUNCATED,
            f"holds {found} samples a channel of {promised}: the file is truncated. "
            "Download it again, or let --max-skipped drop it",
        )
    return _facts(_EXTENSIONS.get(kind, ".mp3"), rate, found, channels)


def _blocks(file: soundfile.SoundFile) -> Any:
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        yield block


def _ogg_is_whole(data: memoryview) -> bool:
    """Whether the last page carries Ogg's end-of-stream flag."""
    page = bytes(data[-65536:]).rfind(b"OggS")
    return page >= 0 and bool(data[max(0, len(data) - 65536) + page + 5] & 4)


def _undecodable(data: memoryview, error: Exception) -> BadClipError:
    return BadClipError(
        Reason.UNDECODABLE,
        f"{len(data)} bytes starting {bytes(data[:8])!r} are no audio that libsndfile reads "
        f"({error}); expected WAV, FLAC, Opus or MP3",
    )


def decode(data: bytes | memoryview) -> tuple[npt.NDArray[np.float32], int]:
    """The samples of a clip: float32 [S, channels] in [-1, 1], and its rate in Hz.

    Raises:
        BadClipError: libsndfile can not decode it.
    """
    try:
        return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError) as error:
        raise _undecodable(memoryview(data), error) from error


def reencode(data: memoryview) -> bytes:
    """WAV in the sample format of `data`, PCM 16 where WAV has none like it."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            subtype = file.subtype if file.subtype in ("PCM_24", "PCM_32", "FLOAT") else "PCM_16"
            out = io.BytesIO()
            samples = file.read(dtype="float32" if subtype == "FLOAT" else "int32", always_2d=True)
            soundfile.write(out, samples, file.samplerate, subtype=subtype, format="WAV")
    except (soundfile.SoundFileError, ValueError) as error:
        raise _undecodable(data, error) from error
    return out.getvalue()
