"""Formats that ffmpeg reads and libsndfile does not: decoded by torchcodec where it is installed, to FLAC.

torchcodec brings torch along, and needs ffmpeg's libraries: neither is needed for any other clip, so they
are imported when the first such clip is met.
"""

import io
import re
from functools import cache
from typing import Any

import numpy as np
import soundfile

from speechrows.audio.facts import MAX_SECONDS
from speechrows.audio.facts import check_length
from speechrows.audio.facts import truncated
from speechrows.audio.samples import is_read_by_libsndfile
from speechrows.audio.wav import is_of_other_codec
from speechrows.errors import BadClipError
from speechrows.types import Reason

_AAC = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
_KINDS = {
    "MP4": rb"....ftyp",  # m4a among them
    "WebM": rb"\x1aE\xdf\xa3",  # or Matroska
    "AAC": _AAC.pattern,
    "WMA": rb"0&\xb2u\x8ef\xcf\x11",
    "AMR": rb"#!AMR",
    "WavPack": rb"wvpk",
    "Monkey's Audio": rb"MAC ",
    "TTA": rb"TTA[12]",
    "FLV": rb"FLV\x01",
    "Ogg": rb"OggS",  # FLAC or Speex in it
    "CAF": rb"caff",
    "WAV": rb"RIFF....WAVE",  # of another codec
}
_SEGMENT = re.compile(rb"\x18\x53\x80\x67")  # of WebM: what holds all others
_TELLING = ("MP4", "WebM")  # whose headers tell how long they are; others' lengths are estimated
_LAST_FRAME_S = 0.25  # may lack at the end of what a header tells
EXTRA = 'pip install "speechrows[decode]", with ffmpeg\'s libraries'


def kind_for_ffmpeg(data: memoryview) -> str | None:
    """What a clip is that ffmpeg alone reads, by its first bytes; None where it is not known to be any."""
    head = bytes(data[:4096])
    kind = next((name for name, pattern in _KINDS.items() if re.match(pattern, head, re.DOTALL)), None)
    if kind is None or (kind == "WAV" and not is_of_other_codec(data)) or is_read_by_libsndfile(data):
        return None
    return kind


def to_flac(data: memoryview, kind: str) -> bytes:
    """Decode a clip of a `kind_for_ffmpeg` and encode it as FLAC, in its own rate and channels.

    FLAC has 24 bits where the clip has more than 16 exact ones, and 16 otherwise.

    Raises:
        BadClipError: torchcodec is not installed, or does not decode all of it.
    """
    decoder_class = _decoder_class()
    if isinstance(decoder_class, str):
        raise BadClipError(
            Reason.NEEDS_DECODE,
            f"is {kind}, which ffmpeg reads: {decoder_class}. {EXTRA}; or convert it to FLAC",
        )
    if promised := _promised(data, kind):
        raise truncated(f"is {len(data)} bytes of {kind}, which promise {promised}")
    try:
        decoder = decoder_class(bytes(data))
        facts = decoder.metadata
        promised_s = facts.duration_seconds_from_header if kind in _TELLING else None
        check_length(round((promised_s or 0) * facts.sample_rate), facts.sample_rate)
        decoded = decoder.get_samples_played_in_range(0, MAX_SECONDS + 1)
    except (RuntimeError, ValueError, OSError) as error:
        words = " ".join(str(error).split()).rpartition(": ")[2]  # before it, places in its source
        raise BadClipError(
            Reason.UNDECODABLE, f"is {kind}, and ffmpeg does not decode it ({words:.200}); download it again"
        ) from error
    samples, rate = decoded.data.numpy().T, int(decoded.sample_rate)
    check_length(len(samples), rate)
    if promised_s and len(samples) < (promised_s - _LAST_FRAME_S) * rate:
        raise truncated(
            f"decodes to {len(samples) / rate:.2f} of {promised_s:.2f} s that its header promises"
        )
    bits = 24 if facts.sample_format and facts.sample_format.startswith(("s32", "dbl")) else 16
    whole = np.rint(samples.astype(np.float64) * (1 << (bits - 1)))
    whole = np.clip(whole, -(1 << (bits - 1)), (1 << (bits - 1)) - 1).astype(np.int32) << (32 - bits)
    out = io.BytesIO()
    soundfile.write(out, whole, rate, format="FLAC", subtype=f"PCM_{bits}")
    return out.getvalue()


def _promised(data: memoryview, kind: str) -> int | None:
    """The size of a file that goes on behind its end, as far as it tells: ffmpeg would read what is there."""
    end = 0
    if kind == "AAC":
        while end + 7 <= len(data) and _AAC.match(data, end):
            size = (data[end + 3] & 3) << 11 | data[end + 4] << 3 | data[end + 5] >> 5
            end += max(size, 7)
    elif kind == "WebM" and (segment := _SEGMENT.search(data, 0, 4096)) and segment.end() < len(data):
        first = data[segment.end()]
        length = 9 - first.bit_length()  # bytes of the size; all ones where a stream leaves it open
        size = int.from_bytes(data[segment.end() : segment.end() + length]) & (1 << 7 * length) - 1
        is_open = length > 8 or size == (1 << 7 * length) - 1
        end = 0 if is_open else segment.end() + length + size
    return end if end > len(data) else None


@cache
def _decoder_class() -> Any:
    """Torchcodec's AudioDecoder, or why there is none."""
    try:
        from torchcodec.decoders import AudioDecoder  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError:
        return "torchcodec is not installed"
    except (OSError, RuntimeError):
        return "torchcodec is installed, and does not find ffmpeg's libraries"
    return AudioDecoder
