"""Augmentation: the same for a row wherever it stands, another in every epoch, never outside the clip."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import FEW
from toys.ragged_rows import RATE
from toys.ragged_rows import ToyRow
from toys.ragged_rows import ragged

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.loader.collate.augment import Augment
from speechrows.loader.collate.collator import Collator
from speechrows.loader.plan.values import PlanOptions

ALL = Augment(
    speed_percent=(100, 105, 110),
    gain_db=(-6, 6),
    snr_db=(5, 20),
    time_masks=2,
    time_mask_share=0.2,
    frequency_masks=2,
)
HEARD = replace(ALL, time_masks=0, frequency_masks=0)


def augmented(rows: list[ToyRow], augment: Augment | None, epoch: int = 0, **options) -> Batch:
    collator = Collator(device="cpu", pad_id=0, plan_options=PlanOptions(budget_seconds=60),
                        audio_tokens_per_second=RATE, augment=augment, **options)  # fmt: skip
    return collator(ragged(rows), epoch)


def tones(count: int = 16, *, hz: float = 440, level: float = 8000, samples: int = 16_000) -> list[ToyRow]:
    wave = (level * np.sin(2 * np.pi * hz * np.arange(samples) / 16_000)).astype(np.int16)
    return [ToyRow(number=i, turn=i, num_samples=samples, samples=wave) for i in range(count)]


def decibels(speech: torch.Tensor) -> torch.Tensor:
    return 10 * speech.square().mean(-1).log10()


@FEW
@given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, 9))
def test_a_row_is_changed_alike_in_any_batch_and_order(order, size, epoch):
    rates = [8_000, 16_000, 24_000, 16_000, 44_100, 16_000]
    rows = [ToyRow(number=i, turn=i, num_samples=3000 + 1700 * i, rate=rate) for i, rate in enumerate(rates)]
    for options, bound in (({"augment": HEARD}, 1e-6), ({"augment": ALL, "mel": 80}, 1e-4)):
        field = "features" if "mel" in options else "speech"
        together = augmented([rows[i] for i in order[:size]], epoch=epoch, **options)
        for place, i in enumerate(order[:size]):
            alone = augmented([rows[i]], epoch=epoch, **options)
            expected = getattr(alone, field)[0]
            actual = getattr(together, field)[place, ..., : expected.shape[-1]]
            assert (actual - expected).abs().max() < bound
            assert together.speech_lengths[place] == alone.speech_lengths[0]


def test_it_is_another_for_each_row_epoch_and_seed():
    rows = tones(2)
    speech = [augmented(rows, HEARD, epoch, seed=seed).speech for epoch, seed in ((0, 0), (1, 0), (0, 1))]
    every = torch.cat(speech)
    assert len({tuple(wave[:50].tolist()) for wave in every}) == 6
    assert torch.equal(augmented(rows, HEARD).speech, speech[0])


def test_by_default_nothing_changes():
    rows = tones(2)
    assert torch.equal(augmented(rows, Augment()).speech, augmented(rows, None).speech)
    assert torch.equal(augmented(rows, Augment(), mel=80).features, augmented(rows, None, mel=80).features)


def test_gain_lies_between_its_bounds():
    gains = decibels(augmented(tones(40), Augment(gain_db=(-9, 3))).speech) - decibels(
        augmented(tones(1), None).speech
    )
    assert -9.1 < gains.min() < -7
    assert 1 < gains.max() < 3.1


def test_noise_lies_as_far_below_speech_as_was_asked_and_not_after_it():
    rows = [replace(row, num_samples=row.num_samples - 1000, samples=row.samples[1000:]) for row in tones(40)]
    clean, noisy = augmented(rows, None).speech, augmented(rows, Augment(snr_db=(5, 20))).speech
    ratios = (clean.square().sum(1) / (noisy - clean).square().sum(1)).log10() * 10
    assert 4.8 < ratios.min() < 7
    assert 18 < ratios.max() < 20.2
    assert not noisy[:, 15_000:].any()
    assert len({tuple(wave[:20].sign().tolist()) for wave in noisy - clean}) == 40


def test_speech_stays_in_its_range():
    loud = augmented(tones(4, level=32_000), Augment(gain_db=(6, 6), snr_db=(0, 0))).speech
    assert loud.abs().max() == 1


def test_a_faster_clip_is_shorter_and_higher_and_leaves_its_row_as_it_is():
    rows = tones(12)
    plain, faster = augmented(rows, None), augmented(rows, Augment(speed_percent=(100, 110)))
    assert set(faster.speech_lengths.tolist()) == {16_000, -(-16_000 * 100 // 110)}
    assert faster.speech.shape == plain.speech.shape
    assert torch.equal(faster.num_audio_tokens, plain.num_audio_tokens)
    assert torch.equal(faster.input_ids, plain.input_ids)
    for wave, length in zip(faster.speech, faster.speech_lengths.tolist(), strict=True):
        assert not wave[length:].any()
        periods = torch.fft.rfft(wave[:length]).abs().argmax()
        assert abs(periods - 440) <= 1  # as many as before, in less time
    assert torch.equal(faster.speech[faster.speech_lengths == 16_000][0], plain.speech[0])


def test_masks_lie_inside_speech_and_touch_nothing_else():
    rows = [ToyRow(number=i, turn=i, num_samples=n) for i, n in enumerate([16_000, 31_000, 4_000] * 8)]
    augment = Augment(time_masks=2, time_mask_share=0.2, frequency_masks=2, frequency_mask_bins=8)
    plain, masked = (augmented(rows, option, mel=80).features for option in (None, augment))
    for row, before, after in zip(rows, plain, masked, strict=True):
        frames = -(-row.num_samples // 160)
        changed = before != after
        assert (after[changed] == 0).all()
        assert not changed[:, frames:].any()
        whole_frames = (after[:, :frames] == 0).all(0)
        whole_bins = (after[:, :frames] == 0).all(1)
        assert whole_frames.sum() <= 2 * int(0.2 * frames)
        assert whole_bins.sum() <= 2 * 8
        assert torch.equal(changed[:, :frames] & ~(whole_frames | whole_bins[:, None]),
                           torch.zeros_like(changed[:, :frames]))  # fmt: skip
    zeros = masked == 0
    assert zeros.all(1).any(1).sum() > len(rows) // 2
    assert zeros[:, :, 0].any(1).sum() > len(rows) // 2


def test_a_row_without_a_clip_and_an_idle_batch_go_through():
    rows = [ToyRow(number=0), ToyRow(number=1, num_samples=1), ToyRow(number=2)]
    assert augmented(rows, ALL, mel=80).features.shape == (1, 80, 8)
    assert augmented(rows[:1], ALL, mel=80).features.shape == (0, 80, 0)
    assert augmented([], HEARD).speech.shape == (0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed_percent": (90, 100)}, "slower clip would not fit"),
        ({"speed_percent": ()}, "from 100 to 200"),
        ({"gain_db": (3, -3)}, "lower bound first"),
        ({"snr_db": (20, 5)}, "lower bound first"),
        ({"time_mask_share": 1.5}, "from 0 to 1"),
        ({"time_masks": -1}, "expected 0 or more"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Augment(**options)


def test_what_a_filter_leaves_after_a_clip_is_not_heard_in_its_faster_version():
    rows = [ToyRow(number=i, turn=i, num_samples=n, rate=24_000) for i, n in enumerate((3_001, 9_000))]
    short, long = (augmented(some, Augment(speed_percent=(110,))).speech[0] for some in (rows[:1], rows))
    assert (long[: len(short)] - short).abs().max() < 1e-6


@FEW
@given(st.integers(1, 40_000), st.sampled_from([8_000, 11_025, 16_000, 24_000]), st.integers(100, 200))
def test_at_any_speed_a_clip_fits_into_its_room(samples, rate, percent):
    row = ToyRow(number=0, num_samples=samples, rate=rate)
    batch = augmented([row], Augment(speed_percent=(percent,)))
    assert batch.speech.shape[1] == row.num_audio_tokens * 1280
    usual = -(-samples * 16_000 // rate)
    assert batch.speech_lengths[0] == -(-usual * 100 // percent)
    assert Fraction(int(batch.speech_lengths[0]), usual) <= 1
