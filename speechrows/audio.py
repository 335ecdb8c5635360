"""Inspect clips: check their headers, and decode only what has to be decoded.

WAV headers are read by struct. FLAC, Opus and MP3 are decoded once by libsndfile to count their
frames, the only way to know that they are whole. Other formats that libsndfile reads are re-encoded as
WAV; the rest is refused.
"""

import contextlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from typing import Literal

import numpy as np
import numpy.typing as npt
import soundfile

from speechrows.errors import BadClipError
from speechrows.types import Reason
from speechrows.types import Samples

_EXTENSIONS = {"FLAC": ".flac", "OPUS": ".opus", "MP3": ".mp3"}
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # of WAVE_FORMAT_EXTENSIBLE, after the tag
_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
_UNKNOWN_SIZE = 0x7FFFF000  # written by programs that stream WAV into a pipe
_UNKNOWN_FRAMES = (1 << 63) - 1  # libsndfile's number for FLAC that was streamed into a pipe
_RATES = range(1_000, 768_001)  # below, a short clip would be a day of speech and a million tokens
_MAX_CHANNELS = 1024  # libsndfile's own limit
_MAX_PAGE = 65_307  # bytes of an Ogg page
_LOSSY = ("VORBIS", "OPUS", "MPEG_LAYER_III")  # may decode beyond full scale
_BLOCK = 1 << 18


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioFacts:
    """Facts of a clip; `num_samples` counts the samples of one channel."""

    extension: str
    sampling_rate: int
    num_samples: Samples
    num_channels: int


def inspect(data: memoryview) -> AudioFacts | None:
    """The facts of a clip that is stored as published; None if it needs re-encoding.

    Raises:
        BadClipError: empty, truncated, undecodable, or without a sample.
    """
    if len(data) == 0:
        raise BadClipError(Reason.EMPTY, "the file is empty; expected audio")
    if bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WAVE":
        return _inspect_wav(data)
    _check_container(data)
    return _inspect_encoded(data)


def _inspect_wav(data: memoryview) -> AudioFacts | None:
    form: tuple[int, int, int, int, int, int] | None = None
    at, end, is_plain = 12, len(data), True
    while at + 8 <= end:
        name, size = bytes(data[at : at + 4]), struct.unpack_from("<I", data, at + 4)[0]
        at += 8
        if name == b"fmt " and size >= 16 and at + 16 <= end:
            form = struct.unpack_from("<HHIIHH", data, at)
            if form[0] == _EXTENSIBLE and size >= 40 and bytes(data[at + 26 : at + 40]) == _GUID_TAIL:
                form = (struct.unpack_from("<H", data, at + 24)[0], *form[1:])
        elif name == b"data":
            if not is_plain:
                _check_opens(data)
            return _wav_facts(form, size, end - at, end)
        else:
            is_plain = False
        at += size + (size & 1)
    raise BadClipError(
        Reason.TRUNCATED,
        f"found {end} bytes of WAV, expected a data chunk too: the file is truncated. Download it again",
    )


def _wav_facts(
    form: tuple[int, int, int, int, int, int] | None, promised: int, present: int, total: int
) -> AudioFacts | None:
    if form is None:
        raise BadClipError(Reason.UNDECODABLE, "found WAV data, expected its fmt chunk before it")
    tag, channels, rate, _, block, bits = form
    if promised >= _UNKNOWN_SIZE:
        promised = present
    if promised > present:
        raise _truncated(f"is {total} bytes, its header promises {total - present + promised}")
    if tag not in _BITS:
        return None
    if not channels or block != channels * bits // 8 or bits not in _BITS[tag]:
        raise BadClipError(
            Reason.UNDECODABLE,
            f"WAV header says {channels} channels, {rate} Hz, {bits} bits, {block} bytes a frame; "
            "expected PCM of 8 to 32 bits or float of 32 or 64, each sample in whole bytes",
        )
    return _facts(".wav", rate, promised // block, channels)


def _facts(extension: str, rate: int, num_samples: int, channels: int) -> AudioFacts:
    if rate not in _RATES or channels > _MAX_CHANNELS:
        raise BadClipError(
            Reason.UNDECODABLE,
            f"header says {channels} channels at {rate} Hz; expected at most {_MAX_CHANNELS} "
            f"channels at {_RATES[0]} to {_RATES[-1]} Hz",
        )
    if num_samples == 0:
        raise BadClipError(Reason.ZERO_SAMPLES, "holds no sample; expected at least one")
    return AudioFacts(
        extension=extension,
        sampling_rate=rate,
        num_samples=Samples(num_samples),
        num_channels=channels,
    )


def _check_container(data: memoryview) -> None:
    """Refuse a file that ends before its container does: libsndfile would read the rest without an error."""
    kind, promised = bytes(data[:4]), 0
    if kind == b"OggS":
        if not _ogg_is_whole(data):
            raise _truncated(f"is {len(data)} bytes of Ogg, expected a last page marked as such")
    elif kind == b"FORM" and len(data) >= 8:
        promised = 8 + struct.unpack_from(">I", data, 4)[0]
    elif kind == b"RF64" and len(data) >= 28 and bytes(data[12:16]) == b"ds64":
        promised = 8 + struct.unpack_from("<Q", data, 20)[0]
    elif kind == b"riff" and len(data) >= 24:  # Sony's Wave64
        promised = struct.unpack_from("<Q", data, 16)[0]
    if promised > len(data):
        raise _truncated(f"is {len(data)} bytes, its header promises {promised}")


def _ogg_is_whole(data: memoryview) -> bool:
    """Whether the last page is complete and has Ogg's end-of-stream flag."""
    tail = bytes(data[-_MAX_PAGE:])
    page = tail.rfind(b"OggS")
    if page < 0 or page + 27 > len(tail):
        return False
    lengths = page + 27, page + 27 + tail[page + 26]
    return bool(tail[page + 5] & 4) and lengths[1] + sum(tail[slice(*lengths)]) <= len(tail)


def _inspect_encoded(data: memoryview) -> AudioFacts | None:
    num_samples = 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            kind = file.subtype if file.format == "OGG" else file.format
            if kind not in _EXTENSIONS:
                return None
            promised, rate, channels = file.frames, file.samplerate, file.channels
            if promised == _UNKNOWN_FRAMES:
                raise BadClipError(
                    Reason.UNDECODABLE,
                    "found FLAC streamed into a pipe, expected a header that says how many samples "
                    "follow: libsndfile does not read it otherwise. Encode it again",
                )
            with contextlib.suppress(soundfile.SoundFileError):  # at a cut, FLAC stops with one
                for block in _blocks(file, "float32"):
                    num_samples += len(block)
    except (soundfile.SoundFileError, ValueError) as error:
        raise undecodable(data, error) from error
    if num_samples < promised:
        raise _short(num_samples, promised)
    return _facts(_EXTENSIONS[kind], rate, num_samples, channels)


def _blocks(file: soundfile.SoundFile, dtype: Literal["float32", "int32"]) -> Iterator[Any]:
    while len(block := file.read(_BLOCK, dtype=dtype, always_2d=True)):
        yield block


def _truncated(what: str) -> BadClipError:
    return BadClipError(
        Reason.TRUNCATED,
        f"{what}: the file is truncated. Download it again, or let --max-skipped drop it",
    )


def _short(num_samples: int, promised: int) -> BadClipError:
    return _truncated(
        f"decodes to {num_samples} of {promised} samples a channel (cut short, or damaged there)"
    )


def _check_opens(data: memoryview) -> None:
    """Check that libsndfile gets past the chunks before the samples: it parses some of them."""
    try:
        soundfile.info(io.BytesIO(data))
    except soundfile.SoundFileError as error:
        raise undecodable(data, error) from error


def undecodable(data: memoryview, error: Exception) -> BadClipError:
    """The BadClipError for a clip that libsndfile rejects."""
    # The bare message: the full one holds the address of an object, which differs every time.
    message = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
    return BadClipError(
        Reason.UNDECODABLE,
        f"found {len(data)} bytes starting {bytes(data[:8])!r}, no audio that libsndfile reads "
        f"({message}); expected WAV, FLAC, Opus or MP3",
    )


def decode(data: bytes | memoryview) -> tuple[npt.NDArray[np.float32], int]:
    """Decode a clip: float32 [S, channels] in [-1, 1], and its rate in Hz.

    Raises:
        BadClipError: libsndfile can not decode it.
    """
    try:
        samples: Any
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        return samples, rate
    except (soundfile.SoundFileError, ValueError) as error:
        raise undecodable(memoryview(data), error) from error


def reencode(data: memoryview) -> bytes:
    """Re-encode a clip as WAV in its own sample format, or PCM 16 if WAV lacks that format.

    Raises:
        BadClipError: libsndfile can not decode all of it.
    """
    out = io.BytesIO()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            is_float = file.subtype in ("FLOAT", "DOUBLE")
            subtype = file.subtype if file.subtype in ("PCM_24", "PCM_32") else "PCM_16"
            # Integers stay exact as integers. What is decoded to floats is not read as integers:
            # libsndfile would wrap around beyond full scale there, and only clips when it writes.
            dtype = "float32" if is_float or file.subtype in _LOSSY else "int32"
            blocks = [np.empty((0, file.channels), dtype), *_blocks(file, dtype)]
            samples: npt.NDArray[Any] = np.concatenate(blocks)
            promised, rate = file.frames, file.samplerate
        if not is_float:
            soundfile.write(out, samples, rate, subtype=subtype, format="WAV")
    except (soundfile.SoundFileError, ValueError) as error:
        raise undecodable(data, error) from error
    if len(samples) < promised:
        raise _short(len(samples), promised)
    return _float_wav(samples, rate) if is_float else out.getvalue()


def _float_wav(samples: npt.NDArray[np.float32], rate: int) -> bytes:
    """Write float 32 WAV. libsndfile would put the time of day into it, in a PEAK chunk."""
    data, frame = samples.astype("<f4").tobytes(), 4 * samples.shape[1]
    form = struct.pack("<HHIIHH", _FLOAT, samples.shape[1], rate, rate * frame, frame, 32)
    head = struct.pack("<4sI4s4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", len(form))
    return head + form + struct.pack("<4sI", b"data", len(data)) + data
