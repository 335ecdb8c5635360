"""Log-mel features, beside transformers' WhisperFeatureExtractor."""

from functools import cache

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import FEW
from toys.samples import SAMPLES
from transformers import WhisperFeatureExtractor

from speechrows.loader.collate.mel import log_mel


@cache
def extractor(num_mels: int) -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=num_mels)


def expected(wave: np.ndarray, num_samples: int, num_mels: int) -> np.ndarray:
    """What the extractor makes of one clip, padded to so many samples and not to 30 s."""
    features = extractor(num_mels)(wave, sampling_rate=16_000, padding="max_length", max_length=num_samples)
    return np.array(features["input_features"][0])


@cache
def speech() -> list[np.ndarray]:
    files = sorted((SAMPLES / "deepdialogue-documented").rglob("*.wav"))
    return [soundfile.read(file, dtype="float32")[0] for file in files]


def in_batch(waves: list[np.ndarray], num_samples: list[int], num_mels: int) -> np.ndarray:
    padded = torch.zeros(len(waves), max(num_samples))
    for line, wave in zip(padded, waves, strict=True):
        line[: len(wave)] = torch.from_numpy(wave)
    return log_mel(padded, torch.tensor(num_samples), num_mels).numpy()


@pytest.mark.parametrize("num_mels", [80, 128])
def test_features_of_real_speech_are_the_extractors(num_mels):
    waves = speech()
    rooms = [-(-len(wave) // 1280) * 1280 for wave in waves]
    for wave, room, actual in zip(waves, rooms, in_batch(waves, rooms, num_mels), strict=True):
        assert np.abs(actual[:, : room // 160] - expected(wave, room, num_mels)).max() < 1e-4
    assert len(set(rooms)) > 3


@FEW
@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(0, 700)), min_size=1, max_size=4))
@example([(1600, 0), (3210, 0), (2400, 7)])  # loud up to where the last window is mirrored
def test_features_are_the_extractors_wherever_a_clip_and_its_padding_end(sizes):
    rng = np.random.default_rng(len(sizes))
    waves = [rng.uniform(-1, 1, size).astype(np.float32) for size, _ in sizes]
    rooms = [max(201, size + after) for size, after in sizes]
    features = in_batch(waves, rooms, 80)
    assert features.shape == (len(waves), 80, max(rooms) // 160)
    for wave, room, clip in zip(waves, rooms, features, strict=True):
        assert np.abs(clip[:, : room // 160] - expected(wave, room, 80)).max() < 1e-4


def test_frames_after_a_clip_are_what_silence_is_in_it():
    loud, quiet = speech()[0], speech()[1][:8000] * 1e-3
    features = in_batch([loud, quiet], [-(-len(loud) // 1280) * 1280, 8000], 80)
    after = features[1, :, 50:]
    with_silence = expected(quiet, 16_000, 80)
    assert (after == with_silence[:, -1:].max()).all()
    assert after.max() <= features[1, :, :50].min()


def test_a_batch_without_clips_has_no_features():
    assert log_mel(torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64), 80).shape == (0, 80, 0)
