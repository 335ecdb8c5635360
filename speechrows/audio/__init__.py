"""Clips as bytes: what their headers say, what they decode to, and what is stored of them."""

from speechrows.audio.conversion import MAX_BYTES
from speechrows.audio.conversion import convert
from speechrows.audio.facts import AudioFacts
from speechrows.audio.inspection import inspect
from speechrows.audio.samples import blocks
from speechrows.audio.samples import decode
from speechrows.audio.samples import exact_dtype
from speechrows.audio.samples import opened
from speechrows.audio.samples import to_mono

__all__ = [
    "MAX_BYTES",
    "AudioFacts",
    "blocks",
    "convert",
    "decode",
    "exact_dtype",
    "inspect",
    "opened",
    "to_mono",
]
