"""What channels.py promises: clips of one side as one channel, to the sample, in the bits that they need."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from toys.audio import wav

from speechrows.conversations.channels import PlacedClip
from speechrows.conversations.channels import flac_of
from speechrows.conversations.channels import form_of
from speechrows.conversations.channels import write_wav
from speechrows.conversations.records import Sound

RATE = 16_000


def placed(samples: list[float], first: int, subtype: str) -> PlacedClip:
    clip = Sound(name="a.wav", data=memoryview(wav(np.array(samples)[:, None], RATE, subtype)))
    return PlacedClip(clip=clip, form=form_of(clip), first=first)


def read(data: bytes | Path, dtype: str) -> list[int]:
    source = io.BytesIO(data) if isinstance(data, bytes) else data
    return soundfile.read(source, dtype=dtype)[0].tolist()


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE", "PCM_32"])
def test_floats_and_32_bits_are_rounded_to_24_and_end_at_full_scale(subtype: str) -> None:
    one = 1 / (1 << 23)
    loud = [1.0, -1.0, 0.5, -0.25, 3 * one, 0.6 * one, 0.4 * one]
    full = (1 << 23) - 1
    heard = read(flac_of([placed(loud, 2, subtype)], 10, RATE), "int32")
    expected = [0, 0, full, -(1 << 23), 1 << 22, -(1 << 21), 3, 1, 0, 0]
    assert [value >> 8 for value in heard] == expected
    assert not any(value & 255 for value in heard)


def test_a_channel_of_16_bits_has_the_samples_where_they_are_placed_and_silence_elsewhere() -> None:
    clips = [placed([0.5, -0.5], 1, "PCM_16"), placed([0.25], 5, "PCM_16")]
    data = flac_of(clips, 8, RATE)
    assert soundfile.info(io.BytesIO(data)).subtype == "PCM_16"
    assert read(data, "int16") == [0, 1 << 14, -(1 << 14), 0, 0, 1 << 13, 0, 0]


@pytest.mark.parametrize(("subtype", "width"), [("PCM_16", 2), ("PCM_24", 3), ("FLOAT", 3)])
def test_a_wavs_header_tells_all_of_its_bytes_whatever_their_width(
    tmp_path: Path, subtype: str, width: int
) -> None:
    write_wav(tmp_path / "a.wav", [[placed([0.5], 0, subtype)], [placed([0.25], 2, "PCM_16")]], 4, RATE)
    data = (tmp_path / "a.wav").read_bytes()
    assert len(data) == 44 + 4 * 2 * width
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert int.from_bytes(data[40:44], "little") == len(data) - 44
    scale = 1 << 31
    assert read(tmp_path / "a.wav", "int32") == [[scale // 2, 0], [0, 0], [0, scale // 4], [0, 0]]
