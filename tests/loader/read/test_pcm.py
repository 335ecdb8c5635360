"""Audio bytes to int16 samples: what libsndfile decodes, as they are, rounded, clipped or averaged."""

import io
import struct
from collections.abc import Sequence

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from toys.audio import encoded
from toys.audio import wav
from toys.examples import FEW
from toys.examples import MANY

from speechrows.errors import BadClipError
from speechrows.loader.read.pcm import LONGEST_HEAD
from speechrows.loader.read.pcm import are_plain
from speechrows.loader.read.pcm import may_be_plain
from speechrows.loader.read.pcm import to_samples

ENCODINGS = [
    *(("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("FLAC", kind) for kind in ("PCM_S8", "PCM_16", "PCM_24")),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def noise(num_samples: int, channels: int = 1, loudest: float = 0.9) -> np.ndarray:
    return np.random.default_rng(num_samples).uniform(-loudest, loudest, (num_samples, channels))


def expected(data: memoryview) -> np.ndarray:
    """By the definition: the mean of the channels, in 32768ths, to the nearest, within int16."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:  # soundfile.read seeks, which MP3 decoders hear
        samples = file.read(dtype="float64", always_2d=True)
    return np.clip(np.rint(samples.mean(axis=1) * 32768), -32768, 32767).astype(np.int16)


def is_plain(data: memoryview, num_samples: int, rate: int) -> bool:
    head = len(data) - 2 * num_samples
    sizes, samples, rates = np.array([head]), np.array([num_samples]), np.array([rate])
    if not may_be_plain(np.array([len(data)]), samples)[0]:
        return False
    return bool(are_plain(np.frombuffer(data, np.uint8, head)[None], sizes, samples, rates)[0])


def with_chunks(pcm: bytes, chunks: Sequence[tuple[bytes, bytes]], rate: int = 16_000) -> memoryview:
    """WAV with other chunks between `fmt ` and `data`."""
    data = wav(pcm, rate)
    more = b"".join(
        struct.pack("<4sI", name, len(body)) + body + bytes(len(body) % 2) for name, body in chunks
    )
    return memoryview(data[:36] + more + data[36:])


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("container", "kind"), ENCODINGS, ids=[kind for _, kind in ENCODINGS])
def test_every_encoding_becomes_what_it_decodes_to_rounded_and_averaged(container, kind, channels) -> None:
    if container == "MP3" and channels > 2:
        pytest.skip("MP3 has no three channels")
    data = memoryview(encoded(noise(9_000, channels), 24_000, container, kind))
    want = expected(data)
    samples = to_samples(data, len(want), 24_000)
    assert samples.dtype == np.int16
    assert np.array_equal(samples, want)


def test_a_float_beyond_full_scale_is_clipped_and_never_wraps() -> None:
    loud = np.array([0.0, 1.0, -1.0, 1.7, -1.7, 0.99999, -0.99999])
    samples = to_samples(memoryview(wav(loud, subtype="FLOAT")), len(loud), 24_000)
    assert samples.tolist() == [0, 32767, -32768, 32767, -32768, 32767, -32768]


@MANY
@given(
    pcm=st.lists(st.integers(-32768, 32767), min_size=1, max_size=50),
    chunk=st.one_of(st.none(), st.binary(max_size=200)),
    rate=st.sampled_from([8_000, 16_000, 24_000, 44_100]),
)
def test_mono_16_bit_wav_is_read_as_it_is_whatever_chunk_stands_in_its_head(pcm, chunk, rate) -> None:
    samples = np.array(pcm, "<i2")
    data = with_chunks(samples.tobytes(), [] if chunk is None else [(b"LIST", chunk)], rate)
    assert is_plain(data, len(samples), rate)
    assert np.array_equal(to_samples(data, len(samples), rate), samples)


@pytest.mark.parametrize(
    "end", [b"", b"LIST\x04\x00\x00\x00abcd"], ids=["two chunks", "one before, one after"]
)
def test_wav_of_another_layout_is_decoded_to_the_same_samples(end: bytes) -> None:
    samples = np.arange(-500, 500, dtype="<i2")
    chunks = [(b"LIST", b"abcd"), (b"fact", b"1234")][: 1 if end else 2]
    data = memoryview(bytes(with_chunks(samples.tobytes(), chunks)) + end)
    assert not is_plain(data, len(samples), 16_000)
    assert np.array_equal(to_samples(data, len(samples), 16_000), samples)
    streamed = bytearray(wav(samples.tobytes(), 16_000))
    streamed[4:8] = b"\xff\xff\xff\xff"  # as a program leaves it that writes into a pipe
    assert is_plain(memoryview(streamed), len(samples), 16_000)


@MANY
@given(at=st.integers(0, 43), value=st.integers(0, 255), chunk=st.booleans())
def test_a_head_with_a_wrong_byte_is_decoded_or_refused_and_never_read_as_it_is(at, value, chunk) -> None:
    pcm = np.arange(1, 101, dtype="<i2")
    data = bytearray(with_chunks(pcm.tobytes(), [(b"LIST", b"abcdef")] if chunk else []))
    was, data[at] = data[at], value
    whole = memoryview(data)
    if was == value or 4 <= at < 8 or (chunk and 36 <= at < 40):
        # Any size of the whole, which streams leave open, and any name of the chunk that is passed over.
        assert is_plain(whole, len(pcm), 16_000)
        return
    assert not is_plain(whole, len(pcm), 16_000)
    try:
        samples = to_samples(whole, len(pcm), 16_000)
    except BadClipError:
        return
    assert np.array_equal(samples, expected(whole))


def test_heads_are_told_apart_in_one_go() -> None:
    pcm = np.arange(100, dtype="<i2").tobytes()
    stereo = memoryview(wav(noise(50, 2), 16_000))
    clips = [
        with_chunks(pcm, []), with_chunks(pcm, [(b"LIST", b"abc")]), stereo,
        memoryview(wav(pcm, 8_000)), with_chunks(pcm, [(b"data", b"")]),
    ]  # fmt: skip
    heads = np.zeros((len(clips), LONGEST_HEAD), np.uint8)
    sizes = np.array([len(clip) - 200 for clip in clips])
    for head, size, clip in zip(heads, sizes, clips, strict=True):
        head[:size] = np.frombuffer(clip[:size], np.uint8)
    plain = are_plain(heads, sizes, np.full(len(clips), 100), np.full(len(clips), 16_000))
    assert plain.tolist() == [True, True, False, False, True]


@FEW
@given(cut=st.integers(1, 400))
def test_a_clip_of_another_length_or_rate_is_refused_with_both_numbers(cut: int) -> None:
    data = memoryview(encoded(noise(1_000), 24_000, "FLAC"))
    with pytest.raises(BadClipError, match=f"1000 samples at 24000 Hz, expected {1000 - cut} at 24000"):
        to_samples(data, 1_000 - cut, 24_000)
    plain = memoryview(wav(noise(1_000)))
    with pytest.raises(BadClipError, match="1000 samples at 24000 Hz, expected 1000 at 16000"):
        to_samples(plain, 1_000, 16_000)
    with pytest.raises(BadClipError, match=f"found {1_000 - cut} samples"):
        to_samples(plain[: 2 * -cut], 1_000, 24_000)


def test_what_is_no_audio_is_refused_in_the_same_words_each_time() -> None:
    for _ in range(2):
        with pytest.raises(BadClipError, match=r"^found 9 bytes starting b'no audio'.*libsndfile") as caught:
            to_samples(memoryview(b"no audio!"), 3, 16_000)
        assert "0x" not in str(caught.value)
