"""What is stored of a clip: every reader finds all of its samples in it, however it was written."""

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from toys.audio import encoded
from toys.audio import wav

from speechrows import audio
from speechrows.audio import facts
from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.loader.read.pcm import to_samples
from speechrows.types import AudioRef
from speechrows.types import Reason

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


def stored(data: bytes, folder: Path) -> tuple[bytes, int]:
    """What a build stores of a clip, and how many samples it says that are."""
    buffer = ClipBuffer(Corpus.open(str(folder)), 1)
    clip = buffer.load(AudioRef(path="clip.bin", data=data))
    return buffer.array[clip.start : clip.stop].tobytes(), clip.num_samples


@pytest.mark.parametrize(("data", "samples"), WHOLE.values(), ids=WHOLE)
def test_all_samples_of_a_clip_are_counted_and_found_by_every_reader(
    tmp_path: Path, data: bytes, samples: npt.NDArray[np.float64]
) -> None:
    clip, num_samples = stored(data, tmp_path)
    assert num_samples == len(samples)
    at_once, rate = soundfile.read(io.BytesIO(clip))
    assert (len(at_once), rate) == (num_samples, RATE)
    loaded = to_samples(memoryview(clip), num_samples, RATE)
    assert len(audio.decode(clip)[0]) == len(loaded) == num_samples
    np.testing.assert_allclose(loaded / 32768, samples, atol=0.12)  # of lossy ones; none is out of step


@pytest.mark.parametrize("options", [{}, VBR], ids=["constant", "variable"])
@pytest.mark.parametrize("behind", [b"", bytes(3000)], ids=["", "zeros behind"])
def test_frames_that_nothing_counts_are_counted(
    tmp_path: Path, behind: bytes, options: dict[str, str]
) -> None:
    """libsndfile estimates their number from the first, and the size of the file."""
    data = uncounted(mp3(ONE, **options))
    clip, num_samples = stored(data + behind, tmp_path)
    assert 0 <= num_samples - len(ONE) <= 3 * 576  # what the encoder added at both ends
    assert len(soundfile.read(io.BytesIO(clip))[0]) == num_samples
    assert clip == data or (clip.endswith(data) and len(clip) < len(data) + 200)


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (mp3(ONE)[:1500] + JUNK + mp3(ONE)[1500:], Reason.UNDECODABLE, "no MP3"),
        (uncounted(mp3(ONE))[:1500] + JUNK + uncounted(mp3(ONE))[1500:], Reason.UNDECODABLE, "no MP3"),
        (uncounted(mp3(ONE))[:-9], Reason.TRUNCATED, "expected the end of another one"),
        (mp3(ONE) + mp3(TWO)[:-9], Reason.TRUNCATED, "its header promises"),
        (encoded(ONE, RATE, "FLAC") + encoded(TWO, 8000, "FLAC"), Reason.UNDECODABLE, "1 at 8000"),
        (mp3(ONE) + mp3(np.stack([TWO, TWO], 1)), Reason.UNDECODABLE, "several files end to end"),
        (open_flac()[:60], Reason.UNDECODABLE, "without a last frame"),
        (open_wav(36, 0, b""), Reason.ZERO_SAMPLES, "no sample"),
        (open_wav(36, 0, b"", b"LIST\x04\0\0\0INFO"), Reason.ZERO_SAMPLES, "no sample"),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_refused_with_the_true_reason(
    tmp_path: Path, data: bytes, reason: Reason, words: str
) -> None:
    with pytest.raises(BadClipError, match=words) as caught:
        stored(data, tmp_path)
    assert caught.value.reason is reason


def test_a_clip_is_refused_for_its_length_and_before_it_is_decoded_where_its_header_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "MAX_SECONDS", 2)
    for data in (
        wav(ONE, RATE),
        encoded(ONE, RATE, "FLAC"),
        open_flac(),
        encoded(ONE, RATE, "AIFF"),
        mp3(ONE),
    ):
        with pytest.raises(BadClipError, match="hours of sound; expected at most") as caught:
            stored(data, tmp_path)
        assert caught.value.reason is Reason.TOO_LARGE
    assert stored(wav(TWO, RATE), tmp_path)[1] == len(TWO)


LEFT, RIGHT = voice(9_000, 200), voice(9_000, 330)
STEREO = np.stack([LEFT, RIGHT], 1)


@pytest.mark.parametrize(
    ("form", "exact"),
    [
        (("WAV", "PCM_16"), True), (("WAV", "PCM_24"), True), (("WAV", "FLOAT"), True),
        (("FLAC", "PCM_24"), True), (("WAV", "ULAW"), True), (("AIFF", "PCM_16"), True),
        (("OGG", "OPUS"), False), (("MP3",), False),
    ],
)  # fmt: skip
def test_a_channel_is_stored_alone_its_samples_exact(
    tmp_path: Path, form: tuple[str, ...], exact: bool
) -> None:
    data = encoded(STEREO, RATE, *form)
    both, _ = soundfile.read(io.BytesIO(data))
    for number in (0, 1):
        (one,) = {
            loaded(
                ClipBuffer(Corpus.open(str(tmp_path)), 1, channel=buffers),
                AudioRef(path="a", channel=own, data=data),
            )
            for buffers, own in ((number, None), (1 - number, number))  # what the corpus says goes before
        }
        alone, _ = soundfile.read(io.BytesIO(one))
        np.testing.assert_allclose(alone, both[:, number], atol=0 if exact else 2**-14)


def loaded(buffer: ClipBuffer, ref: AudioRef) -> bytes:
    clip = buffer.load(ref)
    return buffer.array[clip.start : clip.stop].tobytes()


def test_a_channel_that_is_not_there_is_a_fault_and_mono_stays_as_it_is(tmp_path: Path) -> None:
    buffer = ClipBuffer(Corpus.open(str(tmp_path)), 1, channel=2)
    mono = wav(LEFT, RATE)
    assert loaded(buffer, AudioRef(path="a", data=mono)) == mono
    for ref in (
        AudioRef(path="a", data=encoded(STEREO, RATE, "FLAC")),
        AudioRef(path="a", data=mono, channel=1),
    ):
        with pytest.raises(BadClipError, match="expected one of number") as caught:
            buffer.load(ref)
        assert caught.value.reason is Reason.NO_CHANNEL
