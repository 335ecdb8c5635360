"""Pitch: what was sung is what is told, as near as a slow method that seeks a path through the frames."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import FEW
from toys.samples import XTTS
from toys.speech_like import RATE_HZ
from toys.speech_like import noise
from toys.speech_like import pause
from toys.speech_like import tone

from speechrows.audio.levels import levels_of
from speechrows.audio.pitch import Pitch
from speechrows.audio.pitch import pitch_of


def heard(clip: np.ndarray) -> Pitch:
    return pitch_of(clip, levels_of(clip, RATE_HZ).is_speech)


@FEW
@given(hz=st.floats(70, 450))
def test_the_pitch_of_a_steady_voice_is_its_own_and_has_no_spread(hz: float) -> None:
    mean_hz, std_hz = heard(np.concatenate([pause(0.3), tone(1.0, hz), pause(0.3)]))
    assert mean_hz == pytest.approx(hz, rel=0.03)
    assert std_hz < 0.03 * hz


def test_a_voice_that_moves_has_a_spread() -> None:
    low_and_high = np.concatenate([tone(0.5, 150), tone(0.5, 200)])
    mean_hz, std_hz = heard(low_and_high)
    assert mean_hz == pytest.approx(175, rel=0.03)
    assert std_hz == pytest.approx(25, abs=4)


@pytest.mark.parametrize(
    "clip", [np.zeros(1), np.zeros(8000), np.full(3000, 0.4)], ids=["one", "silence", "dc"]
)
def test_what_is_not_voiced_has_no_pitch(clip: np.ndarray) -> None:
    assert heard(clip.astype(np.float32)) == (0, 0)
    hiss = noise(np.zeros(RATE_HZ, np.float32), 0.01)
    assert heard(hiss) == (0, 0)


@pytest.mark.soak  # numba compiles the slow method for half a minute
def test_it_is_as_near_to_the_slow_method_of_librosa_as_a_tenth() -> None:
    librosa = pytest.importorskip("librosa")
    clips = [soundfile.read(path, dtype="float32") for path in sorted(XTTS.rglob("segments/*.wav"))[:4]]
    for wave, rate_hz in clips:
        samples = librosa.resample(wave, orig_sr=rate_hz, target_sr=RATE_HZ)
        pitches, voiced, _ = librosa.pyin(samples, fmin=60, fmax=500, sr=RATE_HZ)
        assert heard(samples).mean_hz == pytest.approx(float(np.median(pitches[voiced])), rel=0.1)
