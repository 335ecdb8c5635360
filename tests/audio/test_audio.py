"""What a clip's bytes are: read from headers, passed through, re-encoded or refused with the reason."""

import io
import os
import signal
import struct
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from toys.audio import encoded
from toys.examples import MANY
from toys.samples import XTTS

from speechrows import audio
from speechrows.corpora import clip_buffer
from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Reason

SPEECH = XTTS / "data/dialogues_phi4-mini/travel_2_3/segments/001_LLM1_sad.wav"
WAVE: npt.NDArray[np.float64] = soundfile.read(SPEECH)[0][:9600]
STEREO = np.stack([WAVE, -WAVE / 2], axis=1)


def encode(
    fmt: str, subtype: str, samples: npt.NDArray[np.float64] = WAVE, rate: int = 24000, **options: str
) -> bytes:
    return encoded(samples, rate, fmt, subtype, **options)


def riff(*chunks: tuple[bytes, bytes], data_size: int | None = None) -> bytes:
    """A WAV of these chunks, each padded to an even size; `data_size` is what data's header says."""
    body = b""
    for name, content in chunks:
        size = data_size if name == b"data" and data_size is not None else len(content)
        body += name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def fmt(
    tag: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16, block: int | None = None
) -> bytes:
    block = channels * bits // 8 if block is None else block
    return struct.pack("<HHIIHH", tag, channels, rate, (rate * block) & 0xFFFFFFFF, block, bits)


PCM = (WAVE * 32767).astype("<i2").tobytes()
FMT = (b"fmt ", fmt())
LIST = (b"LIST", b"INFOISFT\x05\0\0\0speech"[:-1])  # 17 bytes: an odd chunk, with its pad byte


def facts_of(data: bytes) -> tuple[str, int, int, int]:
    facts = audio.inspect(memoryview(data))
    assert facts is not None
    return facts.extension, facts.sampling_rate, facts.num_samples, facts.num_channels


def refusal(data: bytes) -> BadClipError:
    with pytest.raises(BadClipError) as caught:
        audio.inspect(memoryview(data)) or audio.inspect(memoryview(audio.convert(memoryview(data))))
    return caught.value


PASSED = {
    ".wav": [("WAV", sub) for sub in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")]
    + [("WAVEX", sub) for sub in ("PCM_16", "PCM_24", "FLOAT")],
    ".flac": [("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
    ".opus": [("OGG", "OPUS")],
    ".mp3": [("MP3", "MPEG_LAYER_III")],
}


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("samples", [WAVE, STEREO], ids=["mono", "stereo"])
@pytest.mark.parametrize(("extension", "form"), [(e, form) for e, forms in PASSED.items() for form in forms])
def test_published_formats_are_passed_through_and_their_frames_are_counted_a_channel(
    tmp_path: Path, extension: str, form: tuple[str, str], samples: npt.NDArray[np.float64], rate: int
) -> None:
    data = encode(*form, samples, rate)
    channels = 1 if samples.ndim == 1 else 2
    assert facts_of(data) == (extension, rate, len(samples), channels)
    decoded, decoded_rate = audio.decode(data)
    assert (decoded.shape, decoded.dtype, decoded_rate) == ((len(samples), channels), np.float32, rate)

    (tmp_path / "clip.bin").write_bytes(data)
    buffer = ClipBuffer(Corpus.open(str(tmp_path)), 1 << 16)
    clip = buffer.load(AudioRef(path="clip.bin"))
    assert buffer.array[clip.start : clip.stop].tobytes() == data
    assert clip.name == "clip" + extension


@pytest.mark.parametrize(
    "data",
    [
        riff(FMT, LIST, (b"data", PCM)),
        riff(LIST, FMT, (b"data", PCM)),
        riff(FMT, (b"data", PCM), LIST),
        riff(FMT, (b"junk", b"odd"), (b"data", PCM)),
        riff((b"fmt ", fmt() + b"\0\0"), (b"data", PCM)),  # an 18-byte fmt chunk, as sox writes
        riff(FMT, (b"data", PCM), data_size=0xFFFFFFFF),  # streamed
    ],
    ids=["LIST-before", "LIST-first", "LIST-behind", "odd-chunk", "long-fmt", "streamed"],
)
def test_wav_chunks_around_the_data_change_nothing(data: bytes) -> None:
    assert facts_of(data) == (".wav", 16000, len(WAVE), 1)
    assert np.array_equal(audio.decode(data)[0][:, 0], np.frombuffer(PCM, "<i2") / np.float32(32768))


def test_odd_data_of_8_bits_with_its_pad_byte_counts_no_sample_too_many() -> None:
    data = riff((b"fmt ", fmt(bits=8)), (b"data", b"\x80\x90\xa0"), LIST)
    assert facts_of(data) == (".wav", 16000, 3, 1)
    assert len(audio.decode(data)[0]) == 3


REENCODED = [
    *[("WAV", sub, "PCM_16") for sub in ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")],
    *[("AIFF", sub, sub) for sub in ("PCM_16", "PCM_24", "PCM_32", "FLOAT")],
    ("AIFF", "PCM_S8", "PCM_16"),
    ("AIFF", "DOUBLE", "FLOAT"),
    ("OGG", "VORBIS", "PCM_16"),
    *[(kind, "PCM_16", "PCM_16") for kind in ("RF64", "W64", "CAF", "AU")],
]


@pytest.mark.parametrize("samples", [WAVE, STEREO], ids=["mono", "stereo"])
@pytest.mark.parametrize(("kind", "subtype", "becomes"), REENCODED)
def test_other_formats_become_wav_of_the_same_samples(
    kind: str, subtype: str, becomes: str, samples: npt.NDArray[np.float64]
) -> None:
    data = encode(kind, subtype, samples)
    assert audio.inspect(memoryview(data)) is None
    wave = audio.convert(memoryview(data))
    expected, _ = audio.decode(data)
    assert facts_of(wave) == (".wav", 24000, len(expected), expected.shape[1])
    assert soundfile.info(io.BytesIO(wave)).subtype == becomes
    exact = subtype != "VORBIS"  # which is decoded to floats
    np.testing.assert_allclose(audio.decode(wave)[0], expected.clip(-1, 1), atol=0 if exact else 2**-14)


def test_big_endian_wav_is_reencoded() -> None:
    data = encode("WAV", "PCM_16", endian="BIG")
    assert data[:4] == b"RIFX"
    assert audio.inspect(memoryview(data)) is None
    assert np.array_equal(audio.decode(audio.convert(memoryview(data)))[0][:, 0], audio.decode(data)[0][:, 0])


def test_reencoding_twice_gives_the_same_bytes() -> None:
    data = memoryview(encode("AIFF", "FLOAT"))
    first = audio.convert(data)
    time.sleep(1.01 - time.time() % 1)  # libsndfile's own float WAV holds the second it was written in
    assert audio.convert(data) == first


def test_loud_vorbis_is_clipped_and_does_not_wrap_around() -> None:
    data = encode("OGG", "VORBIS", np.sign(np.sin(np.arange(9600) / 20)))
    decoded, _ = audio.decode(data)
    assert np.abs(decoded).max() > 1.1
    again, _ = audio.decode(audio.convert(memoryview(data)))
    np.testing.assert_allclose(again, decoded.clip(-1, 1), atol=2**-14)


TRUNCATABLE = [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"),
    ("FLAC", "PCM_16"), ("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"),
]  # fmt: skip


@pytest.mark.parametrize("missing", ["one byte", "a tenth", "half"])
@pytest.mark.parametrize(("kind", "subtype"), TRUNCATABLE)
def test_a_truncated_clip_is_refused_as_truncated(kind: str, subtype: str, missing: str) -> None:
    data = encode(kind, subtype)
    cut = data[: -{"one byte": 1, "a tenth": len(data) // 10, "half": len(data) // 2}[missing]]
    error = refusal(cut)
    assert error.reason is Reason.TRUNCATED
    assert "truncated. Download it again" in error.detail


def test_a_truncated_wav_is_told_both_sizes() -> None:
    data = riff(FMT, (b"data", PCM))
    detail = f"is 956 bytes, its header promises {len(data)}: the file is truncated."
    assert refusal(data[:956]).detail.startswith(detail)


ABSURD = {
    "no-channel": fmt(channels=0),
    "no-rate": fmt(rate=0),
    "1-Hz": fmt(rate=1),
    "4-GHz": fmt(rate=0xFFFFFFFF),
    "block-align": fmt(block=3),
    "no-block": fmt(block=0),
    "7-bits": fmt(bits=7, block=1),
    "64-bit-integers": fmt(bits=64),
    "16-bit-floats": fmt(tag=3),
    "2000-channels": fmt(channels=2000),
    "unknown-codec": fmt(tag=0x4242),
}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"R", Reason.UNDECODABLE),
        (b"\0" * 4096, Reason.UNDECODABLE),
        (np.random.default_rng(0).bytes(4096), Reason.UNDECODABLE),
        (b"A page says: this file was moved.\n" * 40, Reason.UNDECODABLE),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", Reason.UNDECODABLE),
        (b"fLaC", Reason.UNDECODABLE),
        (b"OggS", Reason.TRUNCATED),
        (b"ID3\x04", Reason.UNDECODABLE),
        (b"RIFF\x04\0\0\0WAVE", Reason.TRUNCATED),
        (riff(FMT), Reason.TRUNCATED),
        (riff((b"data", PCM), FMT), Reason.UNDECODABLE),
        (riff(FMT, (b"data", PCM))[:44], Reason.TRUNCATED),
        (riff(FMT, (b"data", b"")), Reason.ZERO_SAMPLES),
        (riff(FMT, (b"data", b""), data_size=0xFFFFFFFF), Reason.ZERO_SAMPLES),
        (riff(FMT, (b"data", b"\0")), Reason.ZERO_SAMPLES),  # half a sample
        (encode("AIFF", "PCM_16", WAVE[:0]), Reason.ZERO_SAMPLES),
        (encode("OGG", "VORBIS", WAVE[:0]), Reason.ZERO_SAMPLES),
        *[(riff((b"fmt ", head), (b"data", PCM)), Reason.UNDECODABLE) for head in ABSURD.values()],
    ],
)
def test_what_is_no_audio_is_refused_with_its_reason(data: bytes, reason: Reason) -> None:
    error = refusal(data)
    assert error.reason is reason
    assert "expected" in error.detail or "promises" in error.detail
    assert " at 0x" not in error.detail  # no object's address: details are published


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_an_extensible_wav_of_a_foreign_codec_is_not_taken_for_pcm(kind: str) -> None:
    data = bytearray(encode("WAVEX", "PCM_16"))
    data[48] ^= 1  # within the GUID, behind the two bytes that look like a plain tag
    assert refusal(bytes(data)).reason is Reason.UNDECODABLE


@pytest.mark.parametrize(
    "data",
    [riff(LIST, FMT, (b"data", PCM[:600]), LIST), encode("WAVEX", "PCM_24", STEREO[:200])],
    ids=["LIST", "extensible"],
)
def test_every_prefix_of_a_wav_is_refused_or_read_as_libsndfile_reads_it(data: bytes) -> None:
    for size in range(len(data) + 1):
        try:
            facts = facts_of(data[:size])
        except BadClipError:
            continue
        decoded, rate = audio.decode(data[:size])
        assert facts == (".wav", rate, *decoded.shape)


def agrees(data: bytes) -> None:
    """Refused with a BadClipError, or read as libsndfile reads it."""
    try:
        facts = audio.inspect(memoryview(data))
        if facts is None:
            facts = audio.inspect(memoryview(audio.convert(memoryview(data))))
            assert facts is not None
            return
    except BadClipError:
        return
    decoded, rate = audio.decode(data)
    assert (facts.sampling_rate, facts.num_samples, facts.num_channels) == (rate, *decoded.shape)


@MANY
@given(
    st.sampled_from([b"", riff()[:12], riff(FMT)[:20], b"fLaC", b"OggS", b"ID3", b"FORM"]),
    st.binary(max_size=300),
)
@example(b"riff", b"")
@example(b"RF64\xff\xff\xff\xffWAVEds64", b"")
def test_random_bytes_raise_nothing_but_bad_clip(head: bytes, data: bytes) -> None:
    agrees(head + data)


BASES = [
    riff(FMT, LIST, (b"data", PCM[:600]), LIST),
    *[encode(*form, WAVE[:2000]) for form in [("FLAC", "PCM_16"), ("OGG", "OPUS"), ("AIFF", "PCM_16")]],
    encode("RF64", "PCM_16", WAVE[:300]),
]


@MANY
@given(
    st.sampled_from(BASES),
    st.lists(st.tuples(st.integers(4, 80), st.integers(0, 255)), min_size=1, max_size=3),
    st.integers(0, 40),
)
def test_a_damaged_header_is_refused_or_read_as_libsndfile_reads_it(
    base: bytes, damage: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(base)
    for place, value in damage:
        data[place] = value
    data = data[: len(data) - cut]
    if data[:4] == b"RIFF" and b"LIST" not in data[36:40]:
        return  # libsndfile refuses chunk names that are no letters; other readers pass over them
    agrees(bytes(data))


def test_a_fork_decodes_though_another_thread_of_its_parent_was_opening_a_clip() -> None:
    data = encode("FLAC", "PCM_16")
    opening, opened = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, *size: int | None) -> bytes:
            opening.set()
            opened.wait(10)
            return super().read(*size)

        def readinto(self, buffer: bytearray) -> int:
            opening.set()
            opened.wait(10)
            return super().readinto(buffer)

    thread = threading.Thread(target=lambda: soundfile.info(Slow(data)))
    thread.start()
    opening.wait(10)
    if not (fork := os.fork()):
        signal.alarm(5)
        os._exit(0 if len(audio.decode(data)[0]) == len(WAVE) else 1)
    opened.set()
    thread.join()
    assert os.waitpid(fork, 0)[1] == 0


def test_decode_refuses_garbage() -> None:
    with pytest.raises(BadClipError, match="no audio that libsndfile reads"):
        audio.decode(b"garbage")


def one_sample(value: int) -> bytes:
    return riff(FMT, (b"data", struct.pack("<h", value)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Clips of one sample, each its own number, and things that are no clips."""
    for i in range(5):
        (tmp_path / f"{i}.wav").write_bytes(one_sample(i))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "aiff.aiff").write_bytes(encode("AIFF", "PCM_16", WAVE[:10]))
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    return tmp_path


@pytest.mark.parametrize("num_bytes", [1, 46, 1 << 12])
def test_the_buffer_grows_and_keeps_clips_contiguous_past_bad_ones(folder: Path, num_bytes: int) -> None:
    buffer = ClipBuffer(Corpus.open(str(folder)), num_bytes)
    accepted = []
    for name in ("0.wav", "empty.wav", "1.wav", "nowhere.wav", "aiff.aiff", "folder.wav", "2.wav"):
        try:
            accepted.append(buffer.load(AudioRef(path=name)))
        except BadClipError:
            continue
    assert [clip.name for clip in accepted] == ["0.wav", "1.wav", "aiff.wav", "2.wav"]
    assert [clip.start for clip in accepted] == [0, *(clip.stop for clip in accepted[:-1])]
    assert buffer.used == accepted[-1].stop
    for clip, value in zip([accepted[0], accepted[1], accepted[3]], [0, 1, 2], strict=True):
        assert buffer.array[clip.start : clip.stop].tobytes() == one_sample(value)


def test_rewind_forgets_the_clips_of_a_dropped_dialogue(folder: Path) -> None:
    buffer = ClipBuffer(Corpus.open(str(folder)), 1 << 12)
    first = buffer.load(AudioRef(path="0.wav"))
    for name in ("1.wav", "2.wav"):
        buffer.load(AudioRef(path=name))
    buffer.rewind(first.stop)
    second = buffer.load(AudioRef(path="3.wav"))
    assert second.start == first.stop
    assert buffer.array[: buffer.used].tobytes() == one_sample(0) + one_sample(3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.wav", Reason.MISSING),
        ("0.wav/inside.wav", Reason.MISSING),
        ("empty.wav", Reason.EMPTY),
        ("folder.wav", Reason.UNDECODABLE),
        ("pipe.wav", Reason.UNDECODABLE),
        ("loop.wav", Reason.UNREADABLE),
        ("a" * 300 + ".wav", Reason.UNREADABLE),
    ],
)
def test_what_can_not_be_read_costs_one_clip_and_never_waits(folder: Path, name: str, reason: Reason) -> None:
    buffer = ClipBuffer(Corpus.open(str(folder)), 64)
    with pytest.raises(BadClipError) as caught:
        buffer.load(AudioRef(path=name))
    assert caught.value.reason is reason
    assert str(folder) not in caught.value.detail  # details are published
    assert buffer.used == 0


def test_a_conversation_that_an_arrow_column_can_not_hold_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_buffer, "MAX_BYTES", 100)
    buffer = ClipBuffer(Corpus.open(str(folder)), 64)
    for name in ("0.wav", "1.wav"):
        buffer.load(AudioRef(path=name))
    with pytest.raises(BadClipError) as caught:
        buffer.load(AudioRef(path="2.wav"))
    assert caught.value.reason is Reason.TOO_LARGE
    assert buffer.used == 92
