"""Inspect clips: check their headers, and decode only what has to be decoded.

WAV headers are read by struct. FLAC, Opus and MP3 are decoded once by libsndfile to count their samples,
the only way to know that they are whole. What libsndfile, which reads clips from here on, would not read
to its end is told apart: it is converted, not stored as it is.
"""

import contextlib
import io

import soundfile

from speechrows.audio.containers import check_container
from speechrows.audio.containers import is_odd_flac
from speechrows.audio.containers import ogg_parts
from speechrows.audio.containers import start_of
from speechrows.audio.facts import AudioFacts
from speechrows.audio.facts import check_length
from speechrows.audio.facts import checked_facts
from speechrows.audio.facts import short
from speechrows.audio.facts import truncated
from speechrows.audio.facts import undecodable
from speechrows.audio.ffmpeg import kind_for_ffmpeg
from speechrows.audio.mp3 import mp3_parts
from speechrows.audio.samples import blocks
from speechrows.audio.wav import inspect_wav
from speechrows.audio.wav import is_wav
from speechrows.errors import BadClipError
from speechrows.types import Reason

_EXTENSIONS = {"FLAC": ".flac", "OPUS": ".opus", "MP3": ".mp3"}


def inspect(data: memoryview) -> AudioFacts | None:
    """The facts of a clip that is stored as published; None if it needs converting.

    Raises:
        BadClipError: empty, truncated, undecodable, too long, or without a sample.
    """
    if len(data) == 0:
        raise BadClipError(Reason.EMPTY, "the file is empty; expected audio")
    if start_of(data):
        return None
    if is_wav(data):
        return inspect_wav(data)
    check_container(data)
    if is_odd_flac(data):
        return None
    return _inspect_encoded(data)


def _inspect_encoded(data: memoryview) -> AudioFacts | None:
    num_samples = 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            kind = file.subtype if file.format == "OGG" else file.format
            if kind not in _EXTENSIONS or (kind == "OPUS" and len(ogg_parts(data)) > 1):
                return None
            rate, channels = file.samplerate, file.channels
            promised = _mp3_samples(data, file.frames) if kind == "MP3" else file.frames
            if promised is None:
                return None
            check_length(promised, rate)
            with contextlib.suppress(soundfile.SoundFileError):  # at a cut, FLAC stops with one
                for block in blocks(file):
                    num_samples += len(block)
    except (soundfile.SoundFileError, ValueError) as error:
        if kind_for_ffmpeg(data) is not None:
            return None
        raise undecodable(data, error) from error
    if num_samples < promised:
        raise short(num_samples, promised)
    return checked_facts(_EXTENSIONS[kind], rate, num_samples, channels)


def _mp3_samples(data: memoryview, by_libsndfile: int) -> int | None:
    """How many samples an MP3 decodes to, if it is whole; None where libsndfile would not read all of it."""
    parts = mp3_parts(data)
    if not parts:  # another layer, or frames of free size
        return by_libsndfile
    part = parts[-1]
    if part.is_cut(data):
        missing = (
            f"its header promises {part.promised}" if part.promised else "expected the end of another one"
        )
        raise truncated(f"is {len(data)} bytes of MP3, {part.num_frames} whole frames; {missing}")
    if len(parts) > 1 or not part.is_alone(data):
        return None
    if part.has_count:  # with it, encoders tell what they added at both ends
        return by_libsndfile if part.is_exact else None
    return part.num_samples if part.num_samples <= by_libsndfile else None
