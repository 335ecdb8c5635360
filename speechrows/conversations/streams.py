"""A conversation as streams of one frame grid: the words as text ids, and the codes of both sides."""

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from speechrows.conversations.words import Word
from speechrows.errors import UsageError
from speechrows.types import Int16
from speechrows.types import Int32

# The codes of a silent frame under the weights of kyutai/mimi: those that PersonaPlex, of Moshi's shape,
# writes where a side is silent (SILENCE_TOKENS of its lm.py).
MIMI_SILENCE = (948, 243, 1178, 546, 1736, 1030, 1978, 2008)

Encode = Callable[[str], Sequence[int]]  # a word's ids


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamIds:
    """Ids of streams that are neither words nor codes; the defaults are Moshi's own.

    `text_padding` stands where no word is said, and `end_of_text_padding` in its last frame before a word.
    `zero` is a frame that takes no loss and gives no input. `text_initial` and `audio_initial` stand before a
    delayed stream begins.
    """

    text_padding: int = 3
    end_of_text_padding: int = 0
    zero: int = -1
    text_initial: int = 32_000
    audio_initial: int = 2_048


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlacedCodes:
    """The codes of a clip, int16 [K, F], from frame `first` on."""

    codes: Int16
    first: int

    @property
    def stop(self) -> int:
        """The frame after its last."""
        return self.first + self.codes.shape[1]


def frame_of(sample: int, rate_hz: int, frames_per_second: Fraction) -> int:
    """The frame in which a sample lies."""
    per_second, seconds = frames_per_second.numerator, frames_per_second.denominator
    return sample * per_second // (rate_hz * seconds)


def text_stream(
    words: Iterable[Word],
    num_frames: int,
    frames_per_second: float,
    *,
    encode: Encode,
    ids: StreamIds,
    keep_all: bool = False,
) -> tuple[Int32, int]:
    """The text stream int32 [F], and how many ids of words found no place in it.

    It is that of moshi-finetune's Interleaver: the ids of a word stand from the frame on in which it begins,
    one a frame; the next word takes the place of what is then not yet said, or with `keep_all` waits for it
    (there, `keep_and_shift`). The frame before a word is `end_of_text_padding`, where it was padding.

    Raises:
        UsageError: a word has the id of padding.
    """
    stream = np.full(num_frames, ids.text_padding, np.int32)
    spoken = sorted((word for word in words if word.start_s < word.stop_s), key=lambda word: word.start_s)
    firsts = [max(0, math.floor(word.start_s * frames_per_second)) for word in spoken]
    limits = [num_frames] * len(spoken) if keep_all else [*firsts[1:], num_frames]
    free = num_lost = 0  # the frame after the last id
    for word, first, limit in zip(spoken, firsts, limits, strict=False):
        text = encode(word.text)
        if ids.text_padding in text:
            raise UsageError(
                f"the tokenizer: found {ids.text_padding} among the ids of {word.text!r:.80}, which is the "
                "text padding; expected an id that no word has. Give another text_padding"
            )
        begin = max(first, free) if keep_all else first
        placed = text[: max(0, min(limit, num_frames) - begin)]
        num_lost += len(text) - len(placed)
        if not placed:
            continue
        stream[begin : begin + len(placed)] = placed
        if begin and stream[begin - 1] == ids.text_padding:
            stream[begin - 1] = ids.end_of_text_padding
        free = begin + len(placed)
    return stream, num_lost


def code_stream(placed: Iterable[PlacedCodes], num_frames: int, silence: Sequence[int]) -> Int16:
    """The codes of a side, int16 [K, F], with those of `silence` [K] where it says nothing.

    A clip that begins in the last frame of the one before takes that frame.
    """
    stream = np.repeat(np.array(silence, np.int16)[:, None], num_frames, axis=1)
    for clip in placed:
        stream[:, clip.first : clip.stop] = clip.codes
    return stream
