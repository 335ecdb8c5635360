"""Clips of which some reader finds less than there is: streamed, joined, with something before or behind."""

import struct

import numpy as np
import numpy.typing as npt

from toys.audio import encoded
from toys.audio import wav

RATE = 16_000


def voice(num_samples: int, hz: float) -> npt.NDArray[np.float64]:
    """A tone that swells: where samples are missing, it is out of step."""
    at = np.arange(num_samples) / RATE
    return 0.5 * np.sin(2 * np.pi * hz * at) * (0.5 + 0.4 * np.sin(7 * at))


ONE, TWO = voice(40_000, 200), voice(28_000, 330)
BOTH = np.concatenate([ONE, TWO])
PCM = (ONE * 32767).astype("<i2").tobytes()
ID3 = b"ID3\x04\0\0\0\0\x01\0" + bytes(128)
TAG = b"TAG" + bytes(125)
JUNK = b"\x12" * 1397


def mp3(samples: npt.NDArray[np.float64], **options: str) -> bytes:
    return encoded(samples, RATE, "MP3", **options)


def uncounted(data: bytes) -> bytes:
    """An MP3 without the frame that counts the others, as programs write it that stream."""
    return data[data.index(data[:2], 4) :]


def open_wav(whole: int, size: int, pcm: bytes = PCM, behind: bytes = b"") -> bytes:
    """A WAV whose header was never finished."""
    data = bytearray(wav(pcm, RATE))
    struct.pack_into("<I", data, 4, whole)
    struct.pack_into("<I", data, 40, size)
    return bytes(data) + behind


def open_rf64(name: bytes, size: int) -> bytes:
    head = struct.pack("<4sI4s4sIQQQI", name, 0xFFFFFFFF, b"WAVE", b"ds64", 28, size, size, 0, 0)
    return head + wav(PCM, RATE)[12:40] + struct.pack("<I", 0xFFFFFFFF) + PCM


def open_flac() -> bytes:
    data = bytearray(encoded(ONE, RATE, "FLAC"))
    data[21] &= 0xF0  # the 36 bits that count samples
    data[22:26] = bytes(4)
    return bytes(data)


VBR = {"bitrate_mode": "VARIABLE"}
WHOLE = {
    "wav, both sizes 0": (open_wav(0, 0), ONE),
    "wav, sizes of an empty file": (open_wav(36, 0), ONE),
    "wav, data 0, whole unknown": (open_wav(0xFFFFFFFF, 0), ONE),
    "wav, streamed, two joined": (open_wav(0xFFFFFFFF, 0xFFFFFFFF, behind=wav(TWO, RATE)), BOTH),
    "wav, two joined": (wav(ONE, RATE) + wav(TWO, RATE), BOTH),
    "wav behind ID3": (ID3 + wav(ONE, RATE), ONE),
    "wav behind zeros": (bytes(64) + wav(ONE, RATE), ONE),
    "wav, half a sample more": (open_wav(36 + len(PCM) + 1, len(PCM) + 1, PCM + b"\x12"), ONE),
    "wav, streamed, half a sample more": (open_wav(0xFFFFFFFF, 0xFFFFFFFF, PCM + b"\x12"), ONE),
    "wav, no chunks behind": (wav(ONE, RATE) + b"\xff\0\x12" * 99, ONE),
    "RF64, streamed": (open_rf64(b"RF64", 0), ONE),
    "RF64, streamed, all ones": (open_rf64(b"RF64", (1 << 64) - 1), ONE),
    "BW64": (open_rf64(b"BW64", len(PCM)), ONE),
    "flac, streamed": (open_flac(), ONE),
    "flac, two joined": (encoded(ONE, RATE, "FLAC") + encoded(TWO, RATE, "FLAC"), BOTH),
    "flac, streamed, joined": (open_flac() + encoded(TWO, RATE, "FLAC"), BOTH),
    "flac before a tag": (encoded(ONE, RATE, "FLAC") + TAG, ONE),
    "flac before zeros": (encoded(ONE, RATE, "FLAC") + bytes(500), ONE),
    "flac behind ID3": (ID3 + encoded(ONE, RATE, "FLAC"), ONE),
    "opus, chained": (encoded(ONE, RATE, "OGG", "OPUS") + encoded(TWO, RATE, "OGG", "OPUS"), BOTH),
    "vorbis, chained": (encoded(ONE, RATE, "OGG", "VORBIS") + encoded(TWO, RATE, "OGG", "VORBIS"), BOTH),
    "ogg behind ID3": (ID3 + encoded(ONE, RATE, "OGG", "VORBIS"), ONE),
    "mp3": (mp3(ONE), ONE),
    "mp3, two joined": (mp3(ONE) + mp3(TWO), BOTH),
    "mp3, joined behind tags": (ID3 + mp3(ONE) + TAG + ID3 + mp3(TWO) + TAG, BOTH),
    "mp3, variable, joined": (mp3(ONE, **VBR) + mp3(TWO, **VBR), BOTH),
    "mp3 behind zeros": (bytes(64) + mp3(ONE), ONE),
    "mp3 before zeros": (mp3(ONE) + bytes(3000), ONE),
    "mp3 in wav": (
        struct.pack("<4sI4s4sIHHIIHHH", b"RIFF", 1 << 31, b"WAVE", b"fmt ", 18, 0x55, 1, RATE, 4000, 1, 0, 0)
        + struct.pack("<4sI", b"data", len(mp3(ONE))) + mp3(ONE),
        ONE,
    ),
}  # fmt: skip
