"""What codec.py promises: exact arithmetic at every length and rate; delays undone; bad codes told."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.codec import CODECS
from speechrows.codec import CodecSpec
from speechrows.codec import Specials
from speechrows.codec import check
from speechrows.codec import delay
from speechrows.codec import num_audio_tokens
from speechrows.codec import num_frames
from speechrows.codec import parse_rate
from speechrows.codec import undelay
from speechrows.errors import UsageError

RATES = st.fractions(min_value=Fraction(1, 10), max_value=200, max_denominator=1000)


@MANY
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


# --- codecs ---------------------------------------------------------------------------------

MIMI = CODECS["mimi"]


def spec(**changes):
    facts = {"name": "toy", "sampling_rate": 100, "frame_size": 8, "num_codebooks": 3, "cardinality": 50,
             "specials": Specials.after(50), "delays": (0, 1, 2)}  # fmt: skip
    return CodecSpec(**{**facts, **changes})


@st.composite
def codecs_with_codes(draw):
    """Any codec, and codes int16 [K, F] of it."""
    num_codebooks, cardinality = draw(st.integers(1, 9)), draw(st.integers(1, 32_764))
    delays = draw(st.just(()) | st.tuples(*[st.integers(0, 12)] * num_codebooks))
    codec = spec(
        num_codebooks=num_codebooks,
        cardinality=cardinality,
        specials=Specials.after(cardinality),
        delays=delays,
    )
    codes = draw(st.integers(0, 2**32 - 1).map(np.random.default_rng))
    return codec, codes.integers(0, cardinality, (num_codebooks, draw(st.integers(0, 40)))).astype(np.int16)


def test_the_table_says_what_the_codecs_are():
    rates = {name: codec.rate_hz for name, codec in CODECS.items()}
    assert rates == {
        "mimi": Fraction(25, 2),
        "cosyvoice2": 25,
        "glm_4_voice": Fraction(25, 2),
        "xlsr2_1b_v2_10k": 50,
    }
    assert (MIMI.num_codebooks, MIMI.cardinality, MIMI.frame_size) == (8, 2048, 1920)
    assert MIMI.specials == Specials(bos=2048, sos=2049, eos=2050, pad=2051)
    assert MIMI.delays == (0, 1, 1, 1, 1, 1, 1, 1)
    assert (CODECS["cosyvoice2"].num_codebooks, CODECS["cosyvoice2"].cardinality) == (1, 6561)
    assert (CODECS["glm_4_voice"].num_codebooks, CODECS["glm_4_voice"].cardinality) == (1, 16_384)
    assert (CODECS["xlsr2_1b_v2_10k"].num_codebooks, CODECS["xlsr2_1b_v2_10k"].cardinality) == (1, 10_000)
    assert all(codec.name == name for name, codec in CODECS.items())


@MANY
@given(st.integers(0, 10**12), st.integers(1, 384_000), st.integers(1, 96_000), st.integers(1, 4000))
def test_the_number_of_frames_is_the_exact_ceiling_and_resampling_does_not_change_it(
    num_samples, sampling_rate, rate, frame_size
):
    codec = spec(sampling_rate=rate, frame_size=frame_size)
    frames = num_frames(num_samples, sampling_rate, codec)
    assert frames == math.ceil(Fraction(num_samples, sampling_rate) * codec.rate_hz)
    resampled = math.ceil(Fraction(num_samples * rate, sampling_rate))
    assert num_frames(resampled, rate, codec) == frames


@MANY
@given(codecs_with_codes())
def test_undelay_takes_back_what_delay_did(codec_and_codes):
    codec, codes = codec_and_codes
    late = delay(codes, codec)
    assert late.shape == (codec.num_codebooks, codes.shape[1] + max(codec.delays or (0,)))
    assert late.dtype == np.int16
    assert np.array_equal(undelay(late, codec), codes)
    assert np.array_equal(delay(undelay(late, codec), codec), late)
    assert (late == codec.specials.pad).sum() == late.size - codes.size, "pads and codes, nothing else"


def test_a_delayed_codebook_waits_behind_the_first():
    codes = np.array([[1, 2], [3, 4], [5, 6]], np.int16)
    assert delay(codes, spec()).tolist() == [[1, 2, 53, 53], [53, 3, 4, 53], [53, 53, 5, 6]]


def test_codes_of_another_shape_are_not_shifted():
    with pytest.raises(ValueError, match=r"expected \(3, F\)"):
        delay(np.zeros((2, 5), np.int16), spec())
    with pytest.raises(ValueError, match="expected 2 frames or more"):
        undelay(np.zeros((3, 1), np.int16), spec())


@MANY
@given(codecs_with_codes())
def test_codes_in_range_pass_as_lists_and_as_arrays(codec_and_codes):
    codec, codes = codec_and_codes
    complaint = None if codes.shape[1] else "without a frame"
    for form in (codes, codes.tolist()):
        problem = check(form, codec)
        assert problem is complaint or complaint in problem


@pytest.mark.parametrize(
    ("codes", "complaint"),
    [
        ([], "found 0 codebooks"),
        ([[1], [2]], "found 2 codebooks"),
        ([[], [], []], "without a frame"),  # how a failed encode stands in libritts-mimi
        ([[1, 2], [1], [1, 2]], "of 1 to 2 frames"),
        ([[1], [2], [50]], "from 1 to 50"),
        ([[1], [-1], [2]], "from -1 to 2"),
        ([[1], [2], [10**30]], "expected"),
        ([[1], [2], [1.5]], "found 1.5, a float, among them"),
        ([[1], [2], ["3"]], "found '3', a str, among them"),
        ([[1] * 10**5, [2] * 10**5, ["3" * 10**5] * 10**5], "a str, among them"),  # as an array 40 GB
        ([[1], [2], [None]], "found None, a NoneType, among them"),
        ([[1], [2], [True]], "found True, a bool, among them"),
        ([np.ones(1), np.ones(1), np.ones(1)], "found float64"),
        ([[1], None, [2]], "no lists of numbers"),
        ([1, 2, 3], "no lists of numbers"),
        ([[[1]], [[1]], [[1]]], "found [1], a list, among them"),
        (np.zeros((3, 0), np.int16), "without a frame"),
        (np.zeros((4, 2), np.int16), "found 4 codebooks"),
    ],
)
def test_what_is_wrong_with_codes_is_told_with_what_was_expected(codes, complaint):
    problem = check(codes, spec())
    assert complaint in problem
    assert "expected 3 lists of one length of toy codes" in problem


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"frame_size": 0}, "above 0"),
        ({"num_codebooks": -1}, "above 0"),
        ({"cardinality": 32_765, "specials": Specials.after(32_765)}, "stored as int16"),
        ({"specials": Specials(bos=49, sos=51, eos=52, pad=53)}, "beside 50 codes"),
        ({"delays": (0, 1)}, "3 whole numbers"),
        ({"delays": (0, 1, -1)}, "from 0 on"),
    ],
)
def test_a_codec_that_can_not_be_is_refused(changes, complaint):
    with pytest.raises(UsageError, match=complaint):
        spec(**changes)
