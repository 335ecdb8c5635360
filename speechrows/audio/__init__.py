"""Clips as bytes: what their headers say, what they decode to, and what is stored of them."""

from speechrows.audio.conversion import MAX_BYTES
from speechrows.audio.conversion import convert
from speechrows.audio.conversion import join
from speechrows.audio.conversion import readable
from speechrows.audio.facts import AudioFacts
from speechrows.audio.ffmpeg import kind_for_ffmpeg
from speechrows.audio.ffmpeg import to_flac
from speechrows.audio.inspection import inspect
from speechrows.audio.samples import blocks
from speechrows.audio.samples import decode
from speechrows.audio.samples import exact_dtype
from speechrows.audio.samples import opened
from speechrows.audio.samples import to_mono
from speechrows.audio.slices import Recordings
from speechrows.audio.slices import to_samples
from speechrows.audio.wav import array_wav

__all__ = [
    "MAX_BYTES",
    "AudioFacts",
    "Recordings",
    "array_wav",
    "blocks",
    "convert",
    "decode",
    "exact_dtype",
    "inspect",
    "join",
    "kind_for_ffmpeg",
    "opened",
    "readable",
    "to_flac",
    "to_mono",
    "to_samples",
]
