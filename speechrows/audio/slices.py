"""Slices of long recordings, sample-exact: PCM is read where it lies, anything else is decoded once."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from decimal import ROUND_HALF_UP
from decimal import Decimal
from typing import BinaryIO

import soundfile

from speechrows.audio.containers import flac_facts
from speechrows.audio.conversion import readable
from speechrows.audio.conversion import wav_of
from speechrows.audio.facts import check_length
from speechrows.audio.facts import short
from speechrows.audio.facts import undecodable
from speechrows.audio.inspection import inspect
from speechrows.audio.samples import blocks
from speechrows.errors import BadClipError
from speechrows.types import Reason
from speechrows.types import Samples
from speechrows.types import Span

_IN_PLACE = ("WAV", "WAVEX", "FLAC", "AIFF", "RF64", "W64")  # libsndfile goes to any of their samples exactly
_PCM = ("PCM", "FLOAT", "DOUBLE")
_TOLERANCE_S = 0.025  # manifests round: a slice may end so much after its recording, and ends with it


def to_samples(seconds: float, rate: int) -> Samples:
    """A time in samples at a rate, halves up: as lhotse counts."""
    exact = Decimal(round(seconds * rate, ndigits=8)).quantize(Decimal(0), rounding=ROUND_HALF_UP)
    return Samples(int(exact))


class Recordings:
    """Cuts slices out of recordings. The recording that was cut last stays open: slices come in runs."""

    def __init__(self, open_file: Callable[[str], BinaryIO]) -> None:
        self._open_file = open_file
        self._path: str | None = None
        self._file: soundfile.SoundFile | None = None

    def cut(
        self, path: str, span: Span, data: bytes | memoryview | None = None, channel: int | None = None
    ) -> bytes | None:
        """A slice as WAV in the recording's own sample format; None where it is all of the recording.

        `data` are the recording's bytes, where they do not lie at its path. With `channel`, the slice is that
        channel alone, counted from 0.

        Raises:
            BadClipError: the recording does not decode, or ends before the slice.
            OSError: it can not be opened, FileNotFoundError among them.
        """
        if path != self._path or self._file is None:
            facts = None if data is None else flac_facts(data)
            if facts is not None and _samples_of(span, *facts) == (0, facts[1]):
                return None  # what it tells is checked where it is decoded
            self.close()
            source = self._open_file(path) if data is None else io.BytesIO(data)
            opened = _opened(source, span)
            if opened is None:
                return None
            self._file, self._path = opened, path
        file = self._file
        first, stop = _samples_of(span, file.samplerate, file.frames)
        if (first, stop) == (0, file.frames):
            return None
        try:
            file.seek(first)
            return wav_of(file, stop - first, channel)
        except soundfile.SoundFileError as error:
            self.close()
            raise BadClipError(
                Reason.UNDECODABLE, f"found {error}; expected a recording that decodes"
            ) from error

    def close(self) -> None:
        """Close the recording that was cut last."""
        if self._file is not None:
            self._file.close()
        self._file = self._path = None


def _opened(source: BinaryIO, span: Span) -> soundfile.SoundFile | None:
    """A recording, or what it decodes to, open at any sample; None where it would be decoded as a whole."""
    with contextlib.suppress(soundfile.SoundFileError, ValueError):  # what else reads it, `readable` knows
        file = soundfile.SoundFile(source)
        if file.format in _IN_PLACE and file.subtype.startswith(_PCM):
            check_length(file.frames, file.samplerate)
            return file
        with file, contextlib.suppress(BadClipError):  # of a header that tells less than is there
            if _samples_of(span, file.samplerate, file.frames) == (0, file.frames):
                source.close()
                return None
    source.seek(0)
    with source:
        return soundfile.SoundFile(_decoded(source.read()))


def _decoded(data: bytes) -> BinaryIO:
    """A recording in a lossy format, decoded to a temporary file of PCM."""
    clip = memoryview(data)
    if inspect(clip) is None:
        return io.BytesIO(readable(clip)[0])
    decoded = tempfile.TemporaryFile(prefix="speechrows-")  # noqa: SIM115  # the slices' own
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            num_samples, form = 0, (file.samplerate, file.channels, "PCM_16")
            with soundfile.SoundFile(decoded, "w", *form, format="WAV", closefd=False) as written:
                for block in blocks(file):
                    written.write(block)
                    num_samples += len(block)
            if num_samples < file.frames:
                raise short(num_samples, file.frames)
    except (soundfile.SoundFileError, ValueError) as error:
        raise undecodable(clip, error) from error
    decoded.seek(0)
    return decoded


def _samples_of(span: Span, rate: int, num_samples: int) -> tuple[int, int]:
    """The samples [first, stop) of a slice of a recording of so many."""
    first = to_samples(span.start_s, rate)
    stop = num_samples if span.seconds is None else first + to_samples(span.seconds, rate)
    if abs(stop - num_samples) <= _TOLERANCE_S * rate and (stop > num_samples or first == 0):
        stop = num_samples
    if not 0 <= first < stop <= num_samples:
        ends = "its end" if span.seconds is None else f"{span.start_s + span.seconds:g} s"
        detail = (
            f"found a slice from {span.start_s:g} s to {ends}, of a recording of {num_samples / rate:g} s"
        )
        raise BadClipError(Reason.TRUNCATED, f"{detail}; expected one that lies inside it")
    return first, stop
