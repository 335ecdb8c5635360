"""Clips that ffmpeg alone reads: FLAC where torchcodec is there, else skipped, told what would read them."""

import importlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from toys.audio import encoded
from toys.building import build_rows
from toys.building import read_rows
from toys.corpus import write_corpus
from toys.odd_clips import WHOLE

from speechrows import audio
from speechrows.audio import ffmpeg
from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Reason

RATE = 16_000
WAVE = 0.5 * np.sin(np.arange(24_000) / 9)
HEADS = {
    "MP4": b"\0\0\0\x1cftypM4A \0\0\2\0",
    "WebM": b"\x1aE\xdf\xa3\x9fB\x86\x81\1",
    "AAC": b"\xff\xf1`@8\x1f\xfc",
    "WMA": b"0&\xb2u\x8ef\xcf\x11",
    "AMR": b"#!AMR\n",
}
is_missing = isinstance(ffmpeg._decoder_class(), str)
needs_ffmpeg = pytest.mark.skipif(is_missing, reason=f"{ffmpeg._decoder_class()}: test-compat has it"[:90])


def made(kind: str, channels: int = 1) -> bytes:
    """A clip in a format that libsndfile does not write, nor read."""
    torch, encoders = importlib.import_module("torch"), importlib.import_module("torchcodec.encoders")
    samples = torch.tensor(np.stack([WAVE] * channels), dtype=torch.float32)
    return bytes(encoders.AudioEncoder(samples, sample_rate=RATE).to_tensor(kind).numpy())


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """No torchcodec, whether it is installed or not."""
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    ffmpeg._decoder_class.cache_clear()
    yield
    ffmpeg._decoder_class.cache_clear()


@pytest.mark.parametrize(("kind", "head"), HEADS.items())
def test_without_torchcodec_a_clip_is_refused_by_its_kind_with_what_would_read_it(
    kind: str, head: bytes, without: None
) -> None:
    data = memoryview(head + bytes(200))
    assert audio.inspect(data) is None
    assert audio.kind_for_ffmpeg(data) == kind
    with pytest.raises(
        BadClipError, match=rf'is {kind}, which ffmpeg reads.*"speechrows\[decode\]"'
    ) as caught:
        audio.to_flac(data, kind)
    assert caught.value.reason is Reason.NEEDS_DECODE


def test_without_torchcodec_such_clips_are_counted_apart(tmp_path: Path, without: None) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=2, turns=2, seconds=0.2)
    file = min(corpus.rglob("*.wav"))
    file.write_bytes(HEADS["MP4"] + bytes(200))
    ledger = build_rows(corpus, tmp_path / "rows", "transcription")
    assert (ledger.rows, dict(ledger.skipped)) == (3, {"needs_extra_decode": 1})


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["mp4", "webm", "adts", "mov", "wv"])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_ffmpeg_reads_is_stored_as_flac_of_the_same_sound(
    tmp_path: Path, kind: str, channels: int
) -> None:
    buffer = ClipBuffer(Corpus.open(str(tmp_path)), 1)
    clip = buffer.load(AudioRef(path=f"a.{kind}", data=made(kind, channels)))
    assert clip.name == "a.flac"
    assert clip.made_from in ffmpeg._KINDS
    stored = io.BytesIO(buffer.array[clip.start : clip.stop].tobytes())
    samples, rate = soundfile.read(stored, always_2d=True)
    assert (len(samples), samples.shape[1], rate) == (clip.num_samples, channels, clip.sampling_rate)
    assert 0 <= len(samples) / rate - len(WAVE) / RATE < 0.2  # what codecs add
    assert 0.4 < np.abs(samples).max() < 0.6


@needs_ffmpeg
def test_a_clip_that_ffmpeg_can_not_decode_to_its_end_is_refused(tmp_path: Path) -> None:
    data = made("webm")
    for broken in (HEADS["MP4"] + bytes(200), made("mp4")[:-900], data[: len(data) // 3], made("adts")[:-40]):
        with pytest.raises(BadClipError) as caught:
            ClipBuffer(Corpus.open(str(tmp_path)), 1).load(AudioRef(path="a", data=broken))
        assert caught.value.reason in (Reason.UNDECODABLE, Reason.TRUNCATED)


@needs_ffmpeg
def test_a_build_says_what_it_stored_in_another_format(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=2, turns=2, seconds=0.2)
    min(corpus.rglob("*.wav")).write_bytes(made("mp4"))
    ledger = build_rows(corpus, tmp_path / "rows", "transcription")
    assert "decoded by ffmpeg, stored as FLAC: MP4" in ledger.describe()
    assert "stored as FLAC: MP4" in (tmp_path / "rows/README.md").read_text("utf-8")
    assert [row["audio"]["path"][-5:] for row in read_rows(tmp_path / "rows", "transcription")].count(
        ".flac"
    ) == 1


def test_what_libsndfile_reads_is_none_of_ffmpegs() -> None:
    for form in (("WAV",), ("CAF",), ("OGG", "VORBIS"), ("WAV", "ULAW")):
        assert audio.kind_for_ffmpeg(memoryview(encoded(WAVE, RATE, *form))) is None
    joined, _ = WHOLE["wav, two joined"]  # which libsndfile does not open: it is mended
    assert audio.kind_for_ffmpeg(memoryview(joined)) is None
    for garbage in (b"<html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(99)):
        assert audio.kind_for_ffmpeg(memoryview(garbage)) is None


@needs_ffmpeg
@pytest.mark.parametrize("name", [name for name in WHOLE if not name.startswith("opus")])
def test_ffmpeg_finds_as_many_samples_in_what_is_stored(tmp_path: Path, name: str) -> None:
    data, samples = WHOLE[name]
    buffer = ClipBuffer(Corpus.open(str(tmp_path)), 1)
    clip = buffer.load(AudioRef(path="a", data=data))
    stored = buffer.array[clip.start : clip.stop].tobytes()
    assert ffmpeg._decoder_class()(stored).get_all_samples().data.shape[1] == len(samples)
