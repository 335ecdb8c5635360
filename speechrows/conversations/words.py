"""When each word of a turn is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from speechrows.conversations.turns import SpokenTurn


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word of a turn, and when it is said in the conversation: `is_heard`, or else an estimate."""

    text: str
    start_s: float
    stop_s: float
    is_heard: bool = False


class Aligner(Protocol):
    """Finds when the words of a turn are said."""

    def words(self, turn: SpokenTurn, start_s: float, stop_s: float) -> Sequence[Word]:
        """The words of a turn whose clip lasts from `start_s` to `stop_s`, in order.

        They are those of its text, and each begins before it ends, and not before the one that it follows.
        """
        ...


class Proportional:
    """Gives each word the share of the turn that its letters have of all: nothing is listened to."""

    def words(self, turn: SpokenTurn, start_s: float, stop_s: float) -> Sequence[Word]:
        """The words of a turn, which fill it one after another."""
        return shared(turn.text.split(), start_s, stop_s)


def shared(texts: Sequence[str], start_s: float, stop_s: float) -> list[Word]:
    """Words that fill a time one after another, each by its letters."""
    ends = [0, *accumulate(map(len, texts))]
    times = [start_s + (stop_s - start_s) * end / ends[-1] for end in ends if ends[-1]]
    return [
        Word(text=text, start_s=times[number], stop_s=times[number + 1]) for number, text in enumerate(texts)
    ]
