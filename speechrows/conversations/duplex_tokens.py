"""The tokens of a side of a conversation on its frames: what a full-duplex model reads and writes in time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from speechrows.conversations.frames import FrameGrid
from speechrows.errors import UsageError

Int64 = npt.NDArray[np.int64]
Overflow = Literal["error", "cut"]
CUT_TEXTS = "texts cut to the frames of their turn"
_LETTERS_A_SECOND = 15  # of speech, about
_WHAT_TO_DO = (
    "overflow='cut' cuts texts to their turns and counts them; a tokenizer of longer ids, or a shorter "
    "frame_length, leaves them whole"
)
_TIMESTAMP, _SPACES = re.compile(r"<\|\d+\|>"), re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialIds:
    """The ids at which a turn begins and ends, and of frames in which nothing is said."""

    bos: int
    eos: int
    pad: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedText:
    """What is said in a turn, its ids, and when."""

    text: str
    ids: Sequence[int]
    start_s: float
    stop_s: float


def plain(text: str) -> str:
    """A text without NeMo's time stamps, `<|7|>`, and with single spaces, as NeMo tokenises it."""
    return _SPACES.sub(" ", _TIMESTAMP.sub("", text)).strip()


def token_channel(
    turns: Sequence[TimedText],
    num_frames: int,
    grid: FrameGrid,
    special: SpecialIds,
    overflow: Overflow,
    name: str,
) -> tuple[Int64, int]:
    """The tokens of a side whose turns follow one another in time, and how many texts were cut.

    A turn is bos at the frame where it begins, its ids, one a frame, and eos at the frame where it ends; pad
    elsewhere. One that ends with the conversation has no eos, nor one at whose end the next begins: bos
    stands there. One that is too short for a frame is eos alone, as NeMo cuts it. `name` is the
    conversation's, for errors.

    Returns:
        int64 [num_frames].

    Raises:
        UsageError: a text has more ids than its turn has frames after bos, and `overflow` is "error".
    """
    tokens = np.full(num_frames, special.pad, np.int64)
    num_cut = 0
    for turn in turns:
        first, stop = grid.frame_at(turn.start_s), grid.frame_at(turn.stop_s)
        room = max(0, min(stop, num_frames) - first)
        ids = [special.bos, *turn.ids]
        if len(ids) > room:
            if overflow == "error":
                raise UsageError(f"{name}: {_problem(turn, room, grid)}")
            num_cut += 1
        tokens[first : first + room][: len(ids)] = ids[:room]
        if stop < num_frames:
            tokens[stop] = special.eos
    return tokens, num_cut


def _problem(turn: TimedText, room: int, grid: FrameGrid) -> str:
    num_ids = len(turn.ids)
    is_one_a_byte = num_ids and num_ids >= len(turn.text.encode())
    return (
        f"the turn from {turn.start_s:.2f} to {turn.stop_s:.2f} s, {turn.text!r:.60}, has {room} frames of "
        f"{grid.frame_length_s * 1000:g} ms; found {num_ids + 1} tokens (bos + {num_ids}), expected at most "
        f"one a frame. {one_id_a_byte(grid.frame_length_s) if is_one_a_byte else _WHAT_TO_DO}"
    )


def one_id_a_byte(frame_length_s: float) -> str:
    """Why such a tokenizer does not do, and what does."""
    return (
        f"The tokenizer writes an id a byte; speech has about {_LETTERS_A_SECOND} letters a second, "
        f"and frames of {frame_length_s * 1000:g} ms are {1 / frame_length_s:g}. Give tokenizer=… one of "
        "word pieces, which have about 4 letters an id, with bos, eos and pad tokens"
    )
