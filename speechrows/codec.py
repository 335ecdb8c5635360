"""Samples to audio tokens and to codec frames, in whole numbers; both conversions stand here alone.

A float ceil is wrong at dozens of lengths under 40 s, so rates are fractions and the division is
integer; seconds are never an argument. A codec is a value: its frames, codebooks, special ids and
delays, all that rows and models need of it.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from speechrows.errors import UsageError
from speechrows.types import Frames
from speechrows.types import Int16
from speechrows.types import Samples
from speechrows.types import Tokens

MAX_RATE = 1000  # audio tokens a second
_Int = TypeVar("_Int", bound=np.integer[Any])
_LARGEST = 2**15 - 1  # codes are stored as int16, special ids among them


def parse_rate(text: str | float) -> Fraction:
    """Parse a rate in Hz exactly: "12.5" is 25/2."""
    try:
        rate = Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= MAX_RATE:
        raise UsageError(
            f"audio tokens per second: found {text!r}, expected a number above 0, at most {MAX_RATE}, "
            "such as 12.5"
        )
    return rate


def num_audio_tokens(num_samples: Samples, sampling_rate: int, tokens_per_second: Fraction) -> Tokens:
    """The number of `<audio>` placeholders of a clip: its length in tokens, rounded up."""
    per_second, seconds = tokens_per_second.numerator, tokens_per_second.denominator
    return Tokens(-(-num_samples * per_second // (sampling_rate * seconds)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Specials:
    """Ids beside the codes: before the first frame (bos, sos), after the last one (eos), and padding."""

    bos: int
    sos: int
    eos: int
    pad: int

    @staticmethod
    def after(cardinality: int) -> "Specials":
        """The four ids that follow the codes 0..cardinality-1."""
        return Specials(bos=cardinality, sos=cardinality + 1, eos=cardinality + 2, pad=cardinality + 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecSpec:
    """A neural codec or unit extractor, which encodes a clip as codes int16 [K, F].

    A frame is `frame_size` samples at `sampling_rate`, both whole. Codes are 0..cardinality-1.
    `delays` are the frames by which each codebook is late; () if none is.
    """

    name: str
    sampling_rate: int
    frame_size: int
    num_codebooks: int
    cardinality: int
    specials: Specials
    delays: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = (self.sampling_rate, self.frame_size, self.num_codebooks, self.cardinality)
        if min(sizes) < 1:
            raise UsageError(f"codec {self.name}: found {sizes = }, expected whole numbers above 0")
        ids = (self.specials.bos, self.specials.sos, self.specials.eos, self.specials.pad)
        if min(ids) < self.cardinality or max(ids) > _LARGEST:
            raise UsageError(
                f"codec {self.name}: found special ids {ids} beside {self.cardinality} codes, expected "
                f"ids from {self.cardinality} to {_LARGEST}: codes are stored as int16"
            )
        if self.delays and (len(self.delays) != self.num_codebooks or min(self.delays) < 0):
            raise UsageError(
                f"codec {self.name}: found delays {self.delays}, expected {self.num_codebooks} "
                "whole numbers from 0 on, one a codebook"
            )

    @property
    def rate_hz(self) -> Fraction:
        """Frames a second, exactly."""
        return Fraction(self.sampling_rate, self.frame_size)


_SPECS = (
    CodecSpec(  # kyutai/mimi, the 8 codebooks of 32 that Moshi uses; delays of tiny-audio's audio head
        name="mimi",
        sampling_rate=24_000,
        frame_size=1_920,
        num_codebooks=8,
        cardinality=2_048,
        specials=Specials.after(2_048),
        delays=(0, 1, 1, 1, 1, 1, 1, 1),
    ),
    CodecSpec(  # the speech tokenizer of CosyVoice 2: finite scalar quantisation, 3 to the 8th
        name="cosyvoice2",
        sampling_rate=16_000,
        frame_size=640,
        num_codebooks=1,
        cardinality=6_561,
        specials=Specials.after(6_561),
    ),
    CodecSpec(  # the speech tokenizer of GLM-4-Voice: one code of a quantised Whisper's every 80 ms
        name="glm_4_voice",
        sampling_rate=16_000,
        frame_size=1_280,
        num_codebooks=1,
        cardinality=16_384,
        specials=Specials.after(16_384),
    ),
    CodecSpec(  # USDM's units: layer 35 of XLS-R 1B, 10 000 k-means centroids
        name="xlsr2_1b_v2_10k",
        sampling_rate=16_000,
        frame_size=320,
        num_codebooks=1,
        cardinality=10_000,
        specials=Specials.after(10_000),
    ),
)
CODECS = {spec.name: spec for spec in _SPECS}


def num_frames(num_samples: Samples, sampling_rate: int, spec: CodecSpec) -> Frames:
    """The number of frames of a clip: its length in frames, rounded up.

    Extractors whose convolutions are not padded (HuBERT, XLS-R) give one or two less.
    """
    return Frames(-(-num_samples * spec.sampling_rate // (sampling_rate * spec.frame_size)))


def delay(codes: Int16, spec: CodecSpec) -> Int16:
    """Delay codebook k by `delays[k]` frames: [K, F] to [K, F + max(delays)], with pads around the codes."""
    pad = spec.specials.pad
    return shift(codes, _delays(codes, spec), [pad] * len(codes), pad)


def undelay(codes: Int16, spec: CodecSpec) -> Int16:
    """Undo `delay`: [K, F + max(delays)] to [K, F]. The ids around the codes are dropped."""
    delays = _delays(codes, spec)
    if codes.shape[1] < max(delays):
        raise ValueError(f"codec {spec.name}: found {codes.shape = }, expected {max(delays)} frames or more")
    return unshift(codes, delays)


def shift(
    streams: npt.NDArray[_Int], delays: Sequence[int], before: Sequence[int], after: int
) -> npt.NDArray[_Int]:
    """Streams [K, F] as [K, F + max(delays)], the k-th `delays[k]` frames late.

    `before` [K] stands where a stream has not begun, `after` where it is at its end.
    """
    frames = streams.shape[1]
    late = np.full((len(streams), frames + max(delays)), after, streams.dtype)
    for number, (start, first) in enumerate(zip(delays, before, strict=True)):
        late[number, :start] = first
        late[number, start : start + frames] = streams[number]
    return late


def unshift(late: npt.NDArray[_Int], delays: Sequence[int]) -> npt.NDArray[_Int]:
    """Undo `shift`: [K, F + max(delays)] to [K, F]."""
    frames = late.shape[1] - max(delays)
    return np.stack([late[number, start : start + frames] for number, start in enumerate(delays)])


def _delays(codes: Int16, spec: CodecSpec) -> tuple[int, ...]:
    if codes.ndim != 2 or codes.shape[0] != spec.num_codebooks:
        raise ValueError(f"codec {spec.name}: found {codes.shape = }, expected ({spec.num_codebooks}, F)")
    return spec.delays or (0,) * spec.num_codebooks


def check(  # noqa: PLR0911  # a fault a line
    codes: Sequence[Sequence[int]] | Int16, spec: CodecSpec
) -> str | None:
    """Check a clip's codes, [K][F], of a corpus or a parquet cell; return what is wrong, or None.

    Codes that pass become an array by `np.array(codes, np.int16)`.
    """
    form = "one list" if spec.num_codebooks == 1 else f"{spec.num_codebooks} lists of one length"
    expected = f"expected {form} of {spec.name} codes"
    if len(codes) != spec.num_codebooks:
        return f"found {len(codes)} codebooks, {expected}"
    try:
        lengths = [len(row) for row in codes]
        lists = [row for row in codes if isinstance(row, list)]  # numpy makes words of all, where one is
        others = [value for row in lists for value in row if type(value) is not int]
        if others:
            return f"found {reprlib.repr(others[0])}, a {type(others[0]).__name__}, among them, {expected}"
        values = np.array(codes) if min(lengths) == max(lengths) else None
    except (TypeError, ValueError, OverflowError):
        return f"found codebooks that are no lists of numbers, {expected}"
    if values is None:
        return f"found codebooks of {min(lengths)} to {max(lengths)} frames, {expected}"
    if max(lengths) == 0:
        return f"found codebooks without a frame, {expected}"
    if values.ndim != 2 or values.dtype.kind not in "iu":
        return f"found {values.dtype} of shape {values.shape}, {expected}"
    low, high = int(values.min()), int(values.max())
    in_range = low >= 0 and high < spec.cardinality
    return (
        None if in_range else f"found codes from {low} to {high}, {expected} from 0 to {spec.cardinality - 1}"
    )
