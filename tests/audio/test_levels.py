"""Levels of clips: silence, clipping and noise are told as they were made, and nothing is ever a NaN."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.audio import wav
from toys.examples import FEW
from toys.examples import MANY
from toys.speech_like import RATE_HZ
from toys.speech_like import noise
from toys.speech_like import pause
from toys.speech_like import tone

from speechrows.audio.levels import FLOOR_DB
from speechrows.audio.levels import SNR_DB
from speechrows.audio.levels import LevelMeter
from speechrows.audio.levels import Levels
from speechrows.audio.levels import levels_of
from speechrows.audio.levels import mono_blocks

MEASURES = ("silence", "clipping", "snr_db", "speech_db", "speech_s", "rms", "seconds")


def measures(levels: Levels) -> list[float]:
    return [float(getattr(levels, name)) for name in MEASURES]


@MANY
@given(speech=st.floats(0.5, 3.0), silent=st.floats(0.7, 3.0), rate=st.sampled_from([8000, 16_000, 44_100]))
def test_the_share_of_silence_is_that_of_the_pauses(speech: float, silent: float, rate: int) -> None:
    clip = np.concatenate(
        [
            pause(silent / 2, rate),
            tone(speech, rate_hz=rate),
            pause(silent / 2, rate),
            tone(speech, rate_hz=rate),
        ]
    )
    levels = levels_of(clip, rate)
    assert levels.silence == pytest.approx(silent / (silent + 2 * speech), abs=0.04)
    assert levels.speech_s == pytest.approx(2 * speech, abs=0.08)


def test_short_pauses_are_part_of_speech_and_long_ones_are_not() -> None:
    for seconds, silence in ((0.2, 0.0), (0.6, 0.6 / 2.6)):
        clip = np.concatenate([tone(1.0), pause(seconds), tone(1.0)])
        assert levels_of(clip, RATE_HZ).silence == pytest.approx(silence, abs=0.02)


@FEW
@given(snr=st.floats(3, 45), seed=st.integers(0, 99))
def test_the_ratio_of_speech_to_noise_is_told_within_two_decibels(snr: float, seed: int) -> None:
    clip = np.concatenate([pause(0.5), tone(1.0, peak=0.3), pause(0.7), tone(1.0, peak=0.3), pause(0.5)])
    power = float(np.mean(tone(1.0, peak=0.3) ** 2)) / 10 ** (snr / 10)
    assert levels_of(clip + noise(clip, power, seed), RATE_HZ).snr_db == pytest.approx(snr, abs=2.0)


@FEW
@given(height=st.sampled_from([1.0, 0.6, 0.2]), share=st.floats(0.1, 0.4))
def test_samples_that_are_cut_off_are_counted_at_full_scale_and_below(height: float, share: float) -> None:
    wave = np.sin(2 * np.pi * 150 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    limit = float(np.quantile(np.abs(wave), 1 - share))
    clipped = np.clip(wave, -limit, limit) / limit * height
    true_share = float(np.mean(np.abs(wave) >= limit))
    assert levels_of(clipped, RATE_HZ).clipping == pytest.approx(true_share, abs=0.02)
    assert levels_of(wave * height, RATE_HZ).clipping == 0, "a whole wave is not cut off"


def test_a_level_is_that_of_the_speech_and_not_of_its_pauses_nor_of_a_constant_offset() -> None:
    loud = tone(1.0, peak=0.4)
    level = 10 * np.log10(np.mean(loud.astype(np.float64) ** 2))
    for offset in (0.0, 0.1):
        clip = np.concatenate([loud, pause(2.0)]) + np.float32(offset)
        assert levels_of(clip, RATE_HZ).speech_db == pytest.approx(level, abs=0.5)


@pytest.mark.parametrize(
    "clip",
    [np.zeros(1), np.ones(1), np.zeros(5000), np.full(5000, 0.7), np.array([0.0, 1e-30]), np.full(159, -1.0)],
    ids=["one zero", "one sample", "silence", "a constant", "two", "less than a slot"],
)
def test_clips_without_sound_have_finite_measures(clip: np.ndarray) -> None:
    levels = levels_of(clip.astype(np.float32), RATE_HZ)
    assert np.isfinite(measures(levels)).all()
    assert levels.silence == 1
    assert levels.speech_db == FLOOR_DB
    assert levels.snr_db == SNR_DB[0]
    assert levels.clipping == 0


@MANY
@given(
    values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=2000),
    rate=st.sampled_from([1, 50, 8000, 48_000]),
)
def test_measures_of_any_clip_are_finite_and_in_their_range(values: list[float], rate: int) -> None:
    levels = levels_of(np.array(values, np.float32), rate)
    assert np.isfinite(measures(levels)).all()
    assert 0 <= levels.silence <= 1
    assert 0 <= levels.clipping <= 1
    assert SNR_DB[0] <= levels.snr_db <= SNR_DB[1]


@MANY
@given(seed=st.integers(0, 999), cuts=st.lists(st.integers(1, 4999), max_size=6))
def test_a_clip_heard_in_blocks_is_the_clip(seed: int, cuts: list[int]) -> None:
    clip = noise(np.zeros(5000, np.float32), 0.01, seed)
    meter = LevelMeter(RATE_HZ)
    for block in np.split(clip, sorted(cuts)):
        meter.hear(block)
    in_blocks, whole = meter.levels(), levels_of(clip, RATE_HZ)
    assert np.allclose(in_blocks.level_db, whole.level_db)
    assert in_blocks.num_samples == whole.num_samples


def test_several_channels_are_heard_as_their_mean() -> None:
    left, right = tone(0.3), tone(0.3, hz=310)
    stereo = wav(np.stack([left, right], axis=1), RATE_HZ, "FLOAT")
    (block, rate_hz), *others = mono_blocks(stereo)
    assert not others
    assert rate_hz == RATE_HZ
    assert np.allclose(block, (left + right) / 2, atol=1e-6)


def test_levels_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        levels_of(tone(0.1), RATE_HZ).rms = 1.0  # pyright: ignore[reportAttributeAccessIssue]
