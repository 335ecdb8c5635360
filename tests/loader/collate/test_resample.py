"""Speech at another rate, beside soxr's best."""

import io
from functools import cache

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr
import torch
from toys.samples import SAMPLES
from toys.samples import XTTS

from speechrows.loader.collate.resample import resampled
from speechrows.loader.collate.resample import resampled_length

RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
PAIRS = [(old, new) for old in RATES for new in (16_000, 24_000) if old != new]


@cache
def speech() -> list[tuple[int, np.ndarray]]:
    """Real clips of the bundled corpora, float32 at their rates: 16, 24 and 44.1 kHz."""
    files = [*sorted(XTTS.rglob("segments/*.wav"))[:2], *sorted((SAMPLES / "dailytalk").rglob("*.wav"))]
    clips = [soundfile.read(file, dtype="float32") for file in files]
    for file in sorted((SAMPLES / "hub").rglob("*.parquet")):
        table = pq.read_table(file)
        name = next((n for n in table.column_names if "bytes" in str(table.schema.field(n).type)), None)
        if name:
            cell = table[name][0].as_py()
            clips.append(soundfile.read(io.BytesIO(cell["bytes"]), dtype="float32"))
    return [(rate, wave) for wave, rate in clips if wave.ndim == 1]


def ours(wave: np.ndarray, old: int, new: int) -> np.ndarray:
    return resampled(torch.from_numpy(wave)[None], old, new)[0].numpy()


def decibels(actual: np.ndarray, expected: np.ndarray) -> float:
    """The power of the difference, by that of what is expected."""
    length = min(len(actual), len(expected))  # soxr rounds lengths, we round them up
    assert abs(len(actual) - len(expected)) <= 1
    error = actual[:length] - expected[:length]
    return float(10 * np.log10(np.square(error).mean() / np.square(expected).mean()))


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_speech_is_within_60_decibels_of_soxr_for_every_pair_of_rates(old, new):
    distances = []
    for rate, published in speech():
        wave = soxr.resample(published, rate, old, quality="VHQ")
        distances.append(decibels(ours(wave, old, new), soxr.resample(wave, old, new, quality="VHQ")))
    assert len(distances) > 10
    assert max(distances) < -60


@pytest.mark.parametrize("old", [11_127, 22_255, 44_056])
def test_rates_without_a_common_part_are_as_good(old):
    wave = soxr.resample(speech()[0][1], speech()[0][0], old, quality="VHQ")
    assert decibels(ours(wave, old, 16_000), soxr.resample(wave, old, 16_000, quality="VHQ")) < -60


@pytest.mark.parametrize(("old", "new"), [(48_000, 16_000), (44_100, 16_000), (24_000, 16_000)])
def test_what_the_new_rate_can_not_hold_is_gone(old, new):
    tone = np.sin(2 * np.pi * 0.55 * new * np.arange(old) / old).astype(np.float32)
    inside = ours(tone, old, new)[200:-200]  # where it begins and ends it is no tone
    assert np.abs(inside).max() < 10 ** (-60 / 20)


@pytest.mark.parametrize(("old", "new"), [*PAIRS, (105, 100), (48_000, 44_100)])
def test_a_clip_has_as_many_samples_as_its_length_rounded_up(old, new):
    for length in (1, 2, 3, 79, 80, 81, 160, 1000, 4099):
        expected = -(-length * new // old)
        assert resampled(torch.zeros(2, length), old, new).shape == (2, expected)
        assert resampled_length(length, old, new) == expected


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_samples_stay_where_they_are_in_time(old, new):
    wave = np.zeros(old // 10, np.float32)
    wave[old // 20] = 1
    assert abs(ours(wave, old, new).argmax() / new - (old // 20) / old) <= 0.5 / new


@pytest.mark.parametrize(("old", "new"), [(24_000, 16_000), (11_025, 24_000)])
def test_zeros_after_a_clip_change_nothing_in_it(old, new):
    wave = torch.randn(1, old // 3, generator=torch.Generator().manual_seed(0))
    alone = resampled(wave, old, new)
    among = resampled(torch.nn.functional.pad(wave.expand(3, -1), (0, 12_345)), old, new)
    assert (among[1, : alone.shape[1]] - alone[0]).abs().max() < 1e-6


def test_at_its_own_rate_a_clip_is_not_touched():
    wave = torch.arange(5, dtype=torch.int16)[None]
    assert resampled(wave, 16_000, 16_000) is wave
