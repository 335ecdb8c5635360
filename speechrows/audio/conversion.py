"""Clips that are not stored as published: their headers mended, their parts joined, one channel taken.

Nothing is resampled, and what is PCM stays exact.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from speechrows.audio.containers import flac_parts
from speechrows.audio.containers import is_flac
from speechrows.audio.containers import ogg_parts
from speechrows.audio.containers import start_of
from speechrows.audio.facts import check_length
from speechrows.audio.facts import short
from speechrows.audio.ffmpeg import kind_for_ffmpeg
from speechrows.audio.ffmpeg import to_flac
from speechrows.audio.inspection import inspect
from speechrows.audio.mp3 import mp3_parts
from speechrows.audio.samples import BLOCK
from speechrows.audio.samples import LOSSY
from speechrows.audio.samples import blocks
from speechrows.audio.samples import opened
from speechrows.audio.wav import MP3_TAG
from speechrows.audio.wav import float_wav
from speechrows.audio.wav import is_wav
from speechrows.audio.wav import pcm_wav
from speechrows.audio.wav import read_wav
from speechrows.audio.wav import wav_parts
from speechrows.errors import BadClipError
from speechrows.types import Reason
from speechrows.types import Samples

_EXACT = ("PCM_24", "PCM_32")  # formats of samples that WAV has, too; PCM 16 is the rule
MAX_BYTES = 1 << 30  # of what is written: Arrow's offsets end at 2 GiB


def readable(data: memoryview) -> tuple[bytes, str | None]:
    """A clip that `inspect` does not pass through, as it does; and what it was, where ffmpeg decoded it.

    Raises:
        BadClipError: what is installed can not decode all of it.
    """
    kind = kind_for_ffmpeg(data)
    return (to_flac(data, kind) if kind else convert(data)), kind


def convert(data: memoryview, *, channel: int | None = None) -> bytes:
    """A clip as `inspect` passes it through: its header mended where that is enough, else decoded to WAV.

    WAV is written in the clip's own sample format, or PCM 16 if WAV lacks that format. With `channel`, it
    is that channel alone, counted from 0.

    Raises:
        BadClipError: libsndfile can not decode all of it, or there is no such channel.
    """
    parts = _parts(data[start_of(data) :])
    if channel is None and len(parts) == 1 and len(parts[0]) and inspect(memoryview(parts[0])) is not None:
        return bytes(parts[0])
    return _wav(parts, channel)


def _parts(data: memoryview) -> list[bytes | memoryview]:
    """The files that lie end to end in a clip, one as a rule, each as libsndfile reads it to its end."""
    if is_wav(data):
        form = read_wav(data).form
        return [*_mp3s(data)] if form and form[0] == MP3_TAG else [*wav_parts(data)]
    if bytes(data[:4]) == b"OggS":
        return [*ogg_parts(data)]
    if is_flac(data):
        return [*flac_parts(data)]
    return _mp3s(data) or [data]


def _mp3s(data: memoryview) -> list[bytes | memoryview]:
    if is_wav(data):
        wav = read_wav(data)
        data = data[wav.at : wav.end(data)]
    return [part.mended(data) for part in mp3_parts(data)]


def _wav(parts: list[bytes | memoryview], channel: int | None) -> bytes:
    """Decode files to one WAV, their samples one behind the other."""
    with opened(parts[0]) as first:
        form = (first.samplerate, first.channels)
        with _writer(first, channel) as written:
            for part in parts:
                with opened(part) as file:
                    _check_form(file, form)
                    _copy(file, file.frames, channel, written)
            return written.finish()


def join(clips: Sequence[memoryview], starts: Sequence[Samples]) -> bytes:
    """Clips of one format as one WAV, each from its sample on, with silence between.

    One that begins before its predecessor ends follows it at once.

    Raises:
        BadClipError: one does not decode, or they are too long together.
    """
    with opened(clips[0]) as first, _writer(first, None) as written:
        for clip, start in zip(clips, starts, strict=True):
            with opened(clip) as file:
                written.silence(Samples(start - written.num_samples))
                _copy(file, file.frames, None, written)
        return written.finish()


def wav_of(file: soundfile.SoundFile, num_samples: int, channel: int | None = None) -> bytes:
    """The next samples of an open file as WAV, in its own sample format, or PCM 16 if WAV lacks that format.

    With `channel`, it is that channel alone, counted from 0.

    Raises:
        BadClipError: it has fewer, or no such channel.
    """
    if file.subtype == "PCM_16" and num_samples <= BLOCK * 64:  # without libsndfile's copies
        _check_channel(file, channel)
        samples = np.concatenate(
            [np.empty((0, file.channels), np.int16), *blocks(file, "int16", num_samples)]
        )
        if len(samples) < num_samples:
            raise short(len(samples), num_samples)
        return pcm_wav(samples if channel is None else samples[:, channel : channel + 1], file.samplerate)
    with _writer(file, channel) as written:
        _copy(file, num_samples, channel, written)
        return written.finish()


def _writer(file: soundfile.SoundFile, channel: int | None) -> "_Writer":
    """What writes samples of a file as WAV."""
    _check_channel(file, channel)
    is_float = file.subtype in ("FLOAT", "DOUBLE")
    kept = None if is_float else file.subtype if file.subtype in _EXACT else "PCM_16"
    return _Writer(file.samplerate, file.channels if channel is None else 1, kept)


def _check_channel(file: soundfile.SoundFile, channel: int | None) -> None:
    if channel is not None and channel >= file.channels:
        raise BadClipError(
            Reason.NO_CHANNEL,
            f"has {file.channels} channels; expected one of number {channel}, counted from 0. Choose another",
        )


def _copy(file: soundfile.SoundFile, num_samples: int, channel: int | None, written: "_Writer") -> None:
    """Write the next samples of a file."""
    # Integers stay exact as integers. What is decoded to floats is not read as integers: libsndfile would
    # wrap around beyond full scale there, and only clips when it writes.
    is_float = file.subtype in ("FLOAT", "DOUBLE", *LOSSY)
    before = written.num_samples
    for block in blocks(file, "float32" if is_float else "int32", num_samples):
        written.add(block if channel is None else block[:, channel : channel + 1])
    if written.num_samples - before < num_samples:
        raise short(written.num_samples - before, num_samples)


def _check_form(file: soundfile.SoundFile, form: tuple[int, int]) -> None:
    if (file.samplerate, file.channels) != form:
        raise BadClipError(
            Reason.UNDECODABLE,
            f"is several files end to end, of {form[1]} channels at {form[0]} Hz and of "
            f"{file.channels} at {file.samplerate}; expected one clip",
        )


class _Writer:
    """A WAV that is written in memory, block by block; `subtype` is None for float."""

    def __init__(self, rate: int, channels: int, subtype: str | None) -> None:
        self.num_samples = 0
        self._rate, self._channels = rate, channels
        self._floats: list[npt.NDArray[np.float32]] = [np.empty((0, channels), np.float32)]
        self._out = io.BytesIO()
        self._file = None
        if subtype:
            self._file = soundfile.SoundFile(self._out, "w", rate, channels, subtype=subtype, format="WAV")

    def add(self, block: npt.NDArray[Any]) -> None:
        """Write samples [S, channels]."""
        self.num_samples += len(block)
        check_length(self.num_samples, self._rate)
        num_bytes = self._out.tell() if self._file else self.num_samples * 4 * self._channels
        if num_bytes > MAX_BYTES:
            raise BadClipError(
                Reason.TOO_LARGE, f"is more than {MAX_BYTES} bytes of WAV; expected less. Cut it"
            )
        if self._file:
            self._file.write(block)
        else:
            self._floats.append(block)

    def silence(self, num_samples: Samples) -> None:
        """Write so many samples of silence; none where that is below 0."""
        if num_samples > 0:
            self.add(np.zeros((num_samples, self._channels), np.int32 if self._file else np.float32))

    def finish(self) -> bytes:
        """The WAV."""
        if self._file is None:
            return float_wav(np.concatenate(self._floats), self._rate)
        self._file.close()
        return self._out.getvalue()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
