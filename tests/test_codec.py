"""What codec.py promises: samples become tokens by exact arithmetic, at every length and rate."""

import math
from fractions import Fraction

import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from speechrows.codec import num_audio_tokens
from speechrows.codec import parse_rate
from speechrows.errors import UsageError

RATES = st.fractions(min_value=Fraction(1, 10), max_value=200, max_denominator=1000)


@toys.MANY
@given(st.integers(0, 10**12), st.integers(1, 384_000), RATES)
def test_the_number_of_audio_tokens_is_the_exact_ceiling(num_samples, sampling_rate, rate):
    exact = Fraction(num_samples, sampling_rate) * rate
    assert num_audio_tokens(num_samples, sampling_rate, rate) == math.ceil(exact)


@pytest.mark.parametrize("sampling_rate", [8000, 16000, 22050, 24000, 44100, 48000])
def test_a_whole_number_of_tokens_is_not_rounded_up_and_one_sample_more_is(sampling_rate):
    rate = Fraction(25, 2)
    for tokens in range(1, 501):
        exact = tokens * sampling_rate / rate
        if exact.denominator == 1:
            assert num_audio_tokens(int(exact), sampling_rate, rate) == tokens
            assert num_audio_tokens(int(exact) + 1, sampling_rate, rate) == tokens + 1


def test_every_length_under_two_seconds_agrees_with_fractions():
    rate = Fraction(25, 2)
    for sampling_rate in (16000, 22050, 24000):
        for num_samples in range(0, 2 * sampling_rate, 7):
            exact = math.ceil(num_samples * rate / sampling_rate)
            assert num_audio_tokens(num_samples, sampling_rate, rate) == exact


def test_no_samples_are_no_tokens_and_one_sample_is_one():
    assert num_audio_tokens(0, 16000, Fraction(25, 2)) == 0
    assert num_audio_tokens(1, 16000, Fraction(25, 2)) == 1


@pytest.mark.parametrize(
    ("typed", "rate"),
    [("12.5", Fraction(25, 2)), (12.5, Fraction(25, 2)), (50, Fraction(50)), ("25/3", Fraction(25, 3))],
)
def test_a_rate_is_exactly_what_is_typed(typed, rate):
    assert parse_rate(typed) == rate
    assert parse_rate(0.1) == Fraction(1, 10)


@pytest.mark.parametrize("typed", ["0", "-1", "nan", "inf", "12,5", "", "fast", "1/0", 0, float("nan")])
def test_a_rate_that_is_no_positive_number_is_refused_with_what_was_found(typed):
    with pytest.raises(UsageError, match="expected a number above 0") as refusal:
        parse_rate(typed)
    assert repr(typed) in str(refusal.value)
