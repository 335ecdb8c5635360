"""Samples to audio tokens: the one owner of that conversion, in whole numbers.

A float ceil is wrong at dozens of lengths under 40 s, so rates are fractions and the
division is integer; seconds are never an argument.
"""

from fractions import Fraction

from speechrows.errors import UsageError
from speechrows.types import Samples
from speechrows.types import Tokens


def parse_rate(text: str | float) -> Fraction:
    """An exact rate in Hz from what a person types: "12.5" is 25/2."""
    try:
        rate = Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise UsageError(
            f"audio tokens per second: found {text!r}, expected a number above 0, at most 1000, such as 12.5"
        )
    return rate


def num_audio_tokens(num_samples: Samples, sampling_rate: int, tokens_per_second: Fraction) -> Tokens:
    """How many `<audio>` placeholders a clip takes: its length in tokens, rounded up."""
    per_second, seconds = tokens_per_second.numerator, tokens_per_second.denominator
    return Tokens(-(-num_samples * per_second // (sampling_rate * seconds)))
