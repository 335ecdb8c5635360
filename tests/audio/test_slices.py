"""Slices of recordings: the very samples that the whole recording decodes to, in any order, of any format."""

import io
from fractions import Fraction

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from toys.audio import encoded
from toys.audio import wav
from toys.examples import MANY
from toys.odd_clips import voice

from speechrows.audio import Recordings
from speechrows.audio import decode
from speechrows.audio.slices import to_samples
from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Reason
from speechrows.types import Span

RATE = 16_000
VOICE = voice(3 * RATE, 220) * 0.5
STEREO = np.stack([VOICE, -VOICE], axis=1)
RECORDINGS = {
    "a.wav": wav(STEREO, RATE),
    "b.wav": wav(VOICE, RATE, "PCM_24"),
    "c.wav": wav(VOICE, RATE, "FLOAT"),
    "d.flac": encoded(VOICE, RATE, "FLAC"),
    "e.mp3": encoded(VOICE, RATE, "MP3"),
    "f.ogg": encoded(VOICE, RATE, "OGG", "OPUS"),
    "g.ogg": encoded(VOICE, RATE, "OGG", "VORBIS"),
    "h.au": encoded(VOICE, RATE, "AU", "ULAW"),
}


def recordings() -> Recordings:
    return Recordings(lambda path: io.BytesIO(RECORDINGS[path]))


@pytest.mark.parametrize("path", RECORDINGS)
def test_slices_are_the_samples_of_the_whole_in_any_order(path: str) -> None:
    whole, rate = decode(RECORDINGS[path])
    cuts = recordings()
    for start_s, seconds in ((1.25, 0.5), (0.1, 0.25), (1.25, 0.5), (0.0, 0.3337), (2.0, None)):
        piece, same_rate = decode(cuts.cut(path, Span(start_s=start_s, seconds=seconds)) or b"")
        first = to_samples(start_s, rate)
        stop = len(whole) if seconds is None else first + to_samples(seconds, rate)
        assert same_rate == rate
        # What is lossy is stored as PCM 16, everything else as it is.
        bound = 2**-15 if path.endswith((".mp3", ".ogg")) else 0
        np.testing.assert_allclose(piece, whole[first:stop], atol=bound, rtol=0)


def test_a_slice_keeps_the_recordings_sample_format() -> None:
    kinds = {}
    for path in RECORDINGS:
        piece = recordings().cut(path, Span(start_s=0.5, seconds=0.5))
        with soundfile.SoundFile(io.BytesIO(piece or b"")) as file:
            kinds[path] = f"{file.format} {file.subtype}"
    assert (kinds["a.wav"], kinds["b.wav"], kinds["c.wav"]) == ("WAV PCM_16", "WAV PCM_24", "WAV FLOAT")
    assert kinds["d.flac"] == kinds["e.mp3"] == "WAV PCM_16"


@MANY
@given(st.integers(0, 10**9), st.sampled_from([8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000]))
def test_times_become_samples_halves_up_as_lhotse_counts(nanoseconds: int, rate: int) -> None:
    exact = Fraction(nanoseconds, 10**9) * rate + Fraction(1, 2)
    assert to_samples(nanoseconds / 1e9, rate) in (exact // 1, (exact - Fraction(1, 10**6)) // 1)


def test_a_slice_may_end_a_rounding_after_its_recording_and_no_more() -> None:
    cuts = recordings()
    piece, _ = decode(cuts.cut("a.wav", Span(start_s=2.5, seconds=0.52)) or b"")
    assert len(piece) == RATE // 2
    for span, end in ((Span(start_s=2.5, seconds=0.6), "3.1 s"), (Span(start_s=3.5), "its end")):
        with pytest.raises(BadClipError, match=f"to {end}, of a recording of 3 s; expected") as caught:
            cuts.cut("a.wav", span)
        assert caught.value.reason == Reason.TRUNCATED
    assert cuts.cut("a.wav", Span(start_s=0, seconds=3.01)) is None
    assert cuts.cut("a.wav", Span(start_s=0)) is None


def test_a_buffer_cuts_slices_of_files_and_of_bytes_and_takes_their_channel(tmp_path) -> None:
    (tmp_path / "a.wav").write_bytes(RECORDINGS["a.wav"])
    (tmp_path / "text.wav").write_bytes(b"no recording" * 100)
    buffer = ClipBuffer(Corpus.open(str(tmp_path)), 1 << 20)
    span = Span(start_s=1, seconds=0.5)
    clips = [
        buffer.load(AudioRef(path="a.wav", span=span, channel=1)),
        buffer.load(AudioRef(path="b.tar/a.wav", data=RECORDINGS["a.wav"], span=span, channel=1)),
    ]
    for clip in clips:
        samples, rate = decode(buffer.array[clip.start : clip.stop].tobytes())
        assert (samples.shape, rate, clip.num_samples) == ((RATE // 2, 1), RATE, RATE // 2)
        np.testing.assert_array_equal(samples[:, 0], decode(RECORDINGS["a.wav"])[0][RATE : RATE * 3 // 2, 1])
    whole = buffer.load(AudioRef(path="a.wav", span=Span(start_s=0, seconds=3.0)))
    assert buffer.array[whole.start : whole.stop].tobytes() == RECORDINGS["a.wav"]
    for path, reason in (("none.wav", Reason.MISSING), ("text.wav", Reason.UNDECODABLE)):
        with pytest.raises(BadClipError) as caught:
            buffer.load(AudioRef(path=path, span=span))
        assert caught.value.reason == reason
    assert buffer.used == whole.stop
