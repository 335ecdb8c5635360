"""Prompts in windows, which a model answers one by one: in this process, or in workers of a cluster."""

import itertools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass

from speechrows.generate.asking import Answer
from speechrows.generate.asking import Prompt
from speechrows.generate.asking import Reply
from speechrows.generate.workers import Each

WINDOW = 8  # batches, sorted by length together
Judge = Callable[[Reply], Answer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Prompts that are answered together. What is drawn for them follows from their number alone."""

    number: int
    prompts: tuple[Prompt, ...]
    judge: Judge


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """The answers to a window, and what they took."""

    answers: tuple[Answer, ...]
    num_asked: int
    num_tokens: int
    busy_s: float


class WindowedModel:
    """A ChatModel whose windows `each` has answered."""

    def __init__(self, each: Each, batch_size: int) -> None:
        self.num_tokens = self.num_asked = 0
        self.busy_s = 0.0
        self._each, self._window_size = each, WINDOW * batch_size

    def answers(self, prompts: Iterable[Prompt | None], judge: Judge) -> Iterator[Answer]:
        """An answer to each prompt, in order."""
        for answered in self._each(windows(prompts, self._window_size, judge)):
            self.num_asked += answered.num_asked
            self.num_tokens += answered.num_tokens
            self.busy_s += answered.busy_s
            yield from answered.answers


def windows(prompts: Iterable[Prompt | None], size: int, judge: Judge) -> Iterator[Window | None]:
    """Prompts in windows; a None where all before it are to be answered before more are read."""
    pending: list[Prompt] = []
    number = 0
    for prompt in itertools.chain(prompts, [None]):
        if prompt is not None:
            pending.append(prompt)
        if pending and (prompt is None or len(pending) == size):
            yield Window(number=number, prompts=tuple(pending), judge=judge)
            pending, number = [], number + 1
        if prompt is None:
            yield None
