"""WAV: its chunks read by struct, and headers mended that say nothing of the samples behind them.

A program that writes into a pipe can not go back to write how much it wrote: it leaves 0 or the largest
number there is, and RF64 and BW64, whose sizes are 64 bits, have them in a chunk of their own.
"""

import io
import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from speechrows.audio.facts import AudioFacts
from speechrows.audio.facts import checked_facts
from speechrows.audio.facts import truncated
from speechrows.audio.facts import undecodable
from speechrows.audio.samples import is_read_by_libsndfile
from speechrows.errors import BadClipError
from speechrows.types import Int16
from speechrows.types import Reason

MP3_TAG = 0x55  # a WAV whose samples are MP3

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # of WAVE_FORMAT_EXTENSIBLE, after the tag
_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
_UNKNOWN_SIZE = 0x7FFFF000  # and more: written by programs that stream WAV into a pipe
_NAMES = (b"RIFF", b"RF64", b"BW64")
_NEXT = re.compile(rb"(?:RIFF|RF64|BW64)....WAVE(?:fmt |JUNK|ds64|LIST|bext)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wav:
    """The chunks of a WAV: its format, and where its samples lie.

    `form` is the fmt chunk's tag, channels, rate, bytes a second, bytes a frame and bits; None where that
    comes too late. `at` is the first byte of the samples; `promised` is how many follow by the header, None
    where it does not know. `is_plain` where nothing but fmt stands before them.
    """

    form: tuple[int, int, int, int, int, int] | None
    at: int
    promised: int | None
    is_plain: bool

    def end(self, data: memoryview) -> int:
        """Where the samples end, or the file does."""
        return len(data) if self.promised is None else min(len(data), self.at + self.promised)

    def part_of_a_frame(self, stop: int) -> int:
        """The bytes before `stop` that are less than a sample of each channel: ffmpeg fails on them."""
        is_known = self.form is not None and self.form[0] in _BITS and self.form[4]
        return (stop - self.at) % self.form[4] if self.form and is_known else 0


def is_wav(data: memoryview) -> bool:
    """Whether it begins as WAV, of 32 or 64 bits."""
    return bytes(data[:4]) in _NAMES and bytes(data[8:12]) == b"WAVE"


def is_of_other_codec(data: memoryview) -> bool:
    """Whether the samples of a WAV are neither PCM nor float nor MP3."""
    try:
        form = read_wav(data).form
    except BadClipError:
        return False
    return form is not None and form[0] not in (*_BITS, MP3_TAG)


def inspect_wav(data: memoryview) -> AudioFacts | None:
    """The facts of a WAV that is stored as published; None where it is converted, or its header mended.

    Raises:
        BadClipError: it is truncated, contradicts itself, or holds no sample.
    """
    wav = read_wav(data)
    form, present = wav.form, len(data) - wav.at
    if form is None:
        raise BadClipError(Reason.UNDECODABLE, "found WAV data, expected its fmt chunk before it")
    tag, channels, rate, _, block, bits = form
    if wav.promised is not None and wav.promised > present:
        raise truncated(f"is {len(data)} bytes, its header promises {wav.at + wav.promised}")
    if tag not in _BITS:
        return None
    if not channels or block != channels * bits // 8 or bits not in _BITS[tag]:
        raise BadClipError(
            Reason.UNDECODABLE,
            f"WAV header says {channels} channels, {rate} Hz, {bits} bits, {block} bytes a frame; "
            "expected PCM of 8 to 32 bits or float of 32 or 64, each sample in whole bytes",
        )
    facts = checked_facts(".wav", rate, (wav.end(data) - wav.at) // block, channels)
    return facts if _is_read_alike(data, wav) else None


def _is_read_alike(data: memoryview, wav: Wav) -> bool:
    """Whether every reader finds the samples where this one does."""
    if bytes(data[:4]) != b"RIFF" or next_wav(data, wav) is not None or wav.part_of_a_frame(wav.end(data)):
        return False
    if wav.promised is None:
        return struct.unpack_from("<I", data, wav.at - 4)[0] != 0  # some take it for no sample
    if not wav.is_plain:  # libsndfile parses some of the chunks before the samples
        try:
            soundfile.info(io.BytesIO(data))
        except soundfile.SoundFileError as error:
            raise undecodable(data, error) from error
    rest = len(data) - wav.end(data)
    return rest <= 1 or is_read_by_libsndfile(data)


def read_wav(data: memoryview) -> Wav:
    """Read the chunks up to the samples.

    Raises:
        BadClipError: there are none.
    """
    form: tuple[int, int, int, int, int, int] | None = None
    at, end, is_plain, long_size = 12, len(data), True, None
    while at + 8 <= end:
        name, size = bytes(data[at : at + 4]), struct.unpack_from("<I", data, at + 4)[0]
        at += 8
        if name == b"fmt " and size >= 16 and at + 16 <= end:
            form = struct.unpack_from("<HHIIHH", data, at)
            if form[0] == _EXTENSIBLE and size >= 40 and bytes(data[at + 26 : at + 40]) == _GUID_TAIL:
                form = (struct.unpack_from("<H", data, at + 24)[0], *form[1:])
        elif name == b"data":
            promised = _promised(data, at, size, long_size)
            return Wav(form=form, at=at, promised=promised, is_plain=is_plain)
        else:
            is_plain = False
            if name == b"ds64" and size >= 24 and at + 16 <= end and bytes(data[:4]) != b"RIFF":
                (long_size,) = struct.unpack_from("<Q", data, at + 8)
        at += size + (size & 1)
    raise truncated(f"found {end} bytes of WAV, expected a data chunk too")


def _promised(data: memoryview, at: int, size: int, long_size: int | None) -> int | None:
    """How many bytes of samples the header promises; None where its writer did not know."""
    if long_size is not None and size == 0xFFFFFFFF:
        return long_size if 0 < long_size < 1 << 62 else None
    if size >= _UNKNOWN_SIZE:
        return None
    (whole,) = struct.unpack_from("<I", data, 4)
    # A file without a sample ends here by its header, too; behind the end of a file that was never closed
    # lie samples, which make no chunks.
    is_open = size == 0 and len(data) > at and (8 + whole <= at or whole >= _UNKNOWN_SIZE)
    return None if is_open and not _are_chunks(data, at) else size


def _are_chunks(data: memoryview, at: int) -> bool:
    """Whether chunks follow to the end of the file, each with a name of letters."""
    while at + 8 <= len(data):
        if not re.fullmatch(rb"[A-Za-z][A-Za-z0-9 ]{3}", data[at : at + 4]):
            return False
        at += 8 + struct.unpack_from("<I", data, at + 4)[0]
        at += at & 1
    return at - len(data) in (0, 1)


def next_wav(data: memoryview, wav: Wav) -> int | None:
    """Where another WAV begins behind the samples, or, of a stream, among them."""
    if wav.promised is None:
        head = _NEXT.search(data, wav.at)
    else:
        end = wav.end(data)
        head = _NEXT.match(data, end) or _NEXT.match(data, end + 1)
    return head.start() if head else None


def wav_parts(data: memoryview) -> list[memoryview]:
    """The WAVs that lie end to end in a file, each with a header that says what it holds.

    Raises:
        BadClipError: one of them has no samples, or no format.
    """
    parts = list[memoryview]()
    while is_wav(data):
        wav = read_wav(data)
        if wav.promised is not None and wav.at + wav.promised > len(data):
            raise truncated(f"is {len(data)} bytes, its header promises {wav.at + wav.promised}")
        behind, is_stream = next_wav(data, wav), wav.promised is None
        is_whole = behind is None and not is_stream and not wav.part_of_a_frame(wav.end(data))
        if is_whole and is_read_by_libsndfile(data):
            parts.append(data)
        else:
            parts.append(_closed(data, wav, behind if is_stream and behind else wav.end(data)))
        if behind is None:
            break
        data = data[behind:]
    return parts


def _closed(data: memoryview, wav: Wav, stop: int) -> memoryview:
    """A WAV of 32 bits with the chunks before the samples, its sizes written, and nothing behind them."""
    stop -= wav.part_of_a_frame(stop)
    chunks = bytes(data[12 : wav.at - 4]).replace(b"ds64", b"JUNK", 1)
    body = b"WAVE" + chunks + struct.pack("<I", stop - wav.at) + data[wav.at : stop]
    body += bytes(len(body) & 1)
    return memoryview(b"RIFF" + struct.pack("<I", len(body)) + body)


def array_wav(samples: npt.NDArray[Any], rate: int) -> bytes:
    """WAV of samples [S] or [S, channels]: PCM 16 where that holds them exactly, else float.

    Integers are PCM as they are, of at most 16 bits; floats have their full scale at 1.
    """
    samples = samples[:, None] if samples.ndim == 1 else samples
    scaled = samples if np.issubdtype(samples.dtype, np.integer) else samples * float(1 << 15)
    if np.array_equal(scaled, np.clip(np.rint(scaled), -(1 << 15), (1 << 15) - 1)):
        out = io.BytesIO()
        soundfile.write(out, scaled.astype(np.int16), rate, format="WAV", subtype="PCM_16")
        return out.getvalue()
    return float_wav((scaled / float(1 << 15)).astype(np.float32), rate)


def float_wav(samples: npt.NDArray[np.float32], rate: int) -> bytes:
    """Write float 32 WAV. libsndfile would put the time of day into it, in a PEAK chunk."""
    return _wav(_FLOAT, samples.astype("<f4").tobytes(), samples.shape[1], 4, rate)


def pcm_wav(samples: Int16, rate: int) -> bytes:
    """Write PCM 16 WAV of samples [S, channels], as libsndfile does."""
    data = np.ascontiguousarray(samples, "<i2").tobytes()  # of one channel, tobytes alone is slow
    return _wav(_PCM, data, samples.shape[1], 2, rate)


def pcm_head(num_bytes: int, channels: int, width: int, rate: int) -> bytes:
    """What stands in a WAV before its `num_bytes` of PCM samples, each `width` bytes wide."""
    return _head(_PCM, num_bytes, channels, width, rate)


def _wav(tag: int, data: bytes, channels: int, width: int, rate: int) -> bytes:
    """A WAV of samples that are `width` bytes wide, of the format that a tag says."""
    return _head(tag, len(data), channels, width, rate) + data


def _head(tag: int, num_bytes: int, channels: int, width: int, rate: int) -> bytes:
    frame = width * channels
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, 8 * width)
    head = struct.pack("<4sI4s4sI", b"RIFF", 36 + num_bytes, b"WAVE", b"fmt ", len(form))
    return head + form + struct.pack("<4sI", b"data", num_bytes)
