"""When each word of a turn is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from speechrows.conversations.turns import SpokenTurn


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word of a turn, and when it is said in the conversation."""

    text: str
    start_s: float
    stop_s: float


class Aligner(Protocol):
    """Finds when the words of a turn are said."""

    def words(self, turn: SpokenTurn, start_s: float, stop_s: float) -> Sequence[Word]:
        """The words of a turn whose clip lasts from `start_s` to `stop_s`; each begins before it ends."""
        ...


class Proportional:
    """Gives each word the share of the turn that its letters have of all: nothing is listened to."""

    def words(self, turn: SpokenTurn, start_s: float, stop_s: float) -> Sequence[Word]:
        """The words of a turn, which fill it one after another."""
        words = turn.text.split()
        ends = [0, *accumulate(map(len, words))]
        times = [start_s + (stop_s - start_s) * end / ends[-1] for end in ends if ends[-1]]
        return [
            Word(text=word, start_s=times[number], stop_s=times[number + 1])
            for number, word in enumerate(words)
        ]
