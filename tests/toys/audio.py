"""Audio files made of samples, and clips to generate columns for."""

import io
import struct

import numpy as np
import soundfile

from speechrows.generate.clip import InputClip
from speechrows.generate.clip import LazyAudio
from speechrows.types import AudioRef


def wav(samples: np.ndarray | bytes, rate_hz: int = 24_000, subtype: str = "PCM_16") -> bytes:
    """A WAV file of samples [S] or [S, channels]; bytes are mono PCM 16 as they are."""
    if not isinstance(samples, bytes):
        return encoded(samples, rate_hz, "WAV", subtype)
    header = struct.pack("<4sI4s", b"RIFF", 36 + len(samples), b"WAVE")
    header += struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return header + struct.pack("<4sI", b"data", len(samples)) + samples


def encoded(
    samples: np.ndarray, rate_hz: int, container: str, subtype: str | None = None, **options: str
) -> bytes:
    """A file of samples [S] or [S, channels] in any container that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype, **options)
    return file.getvalue()


def clip(name: str, data: bytes) -> InputClip:
    """A clip of these bytes, its id the name."""
    return InputClip(clip_id=name, text="", audio=LazyAudio(ref=AudioRef(path=f"{name}.wav", data=data)))
