"""What is stored of a clip: every reader finds all of its samples in it, however it was written."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from toys.audio import encoded
from toys.audio import wav
from toys.odd_clips import JUNK
from toys.odd_clips import ONE
from toys.odd_clips import RATE
from toys.odd_clips import TWO
from toys.odd_clips import VBR
from toys.odd_clips import WHOLE
from toys.odd_clips import mp3
from toys.odd_clips import open_flac
from toys.odd_clips import open_wav
from toys.odd_clips import uncounted
from toys.odd_clips import voice

from speechrows import audio
from speechrows.audio import facts
from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.loader.read.pcm import to_samples
from speechrows.types import AudioRef
from speechrows.types import Reason


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
