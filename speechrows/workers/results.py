"""Jobs handed to workers and results taken from them: a bounded number at a time, in order where asked."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from itertools import chain
from itertools import takewhile
from typing import Any
from typing import Protocol

_HELD_BACK = 4  # times as many results as are done at a time may wait for one before them


class Workers(Protocol):
    """Workers that jobs are given to, a bounded number at a time."""

    @property
    def number(self) -> int:
        """How many jobs they take at a time."""
        ...

    @property
    def num_taken(self) -> int:
        """How many jobs they have."""
        ...

    def start(self, number: int, job: Any) -> None:
        """Have a job done, which is called by its number."""
        ...

    def finished(self) -> Sequence[tuple[int, Any]]:
        """Wait until a job has ended; the numbers and results of all that have."""
        ...


def results_of(workers: Workers, jobs: Iterable[Any], *, ordered: bool) -> Iterator[Any]:
    """Have jobs done, and yield their results, as `work.Engine.run` promises it."""
    for run in _runs(jobs):
        yield from _results(workers, run, ordered=ordered)


def _runs(jobs: Iterable[Any]) -> Iterator[Iterator[Any]]:
    """Jobs up to a None, then those behind it."""
    remaining = iter(jobs)
    for first in remaining:
        if first is not None:
            yield chain([first], takewhile(lambda job: job is not None, remaining))


def _results(workers: Workers, jobs: Iterator[Any], *, ordered: bool) -> Iterator[Any]:
    numbered, is_more = enumerate(jobs), True
    ended: dict[int, Any] = {}  # results that are not yielded yet
    num_yielded = 0
    while is_more or workers.num_taken:
        while is_more and workers.num_taken < workers.number and len(ended) < _HELD_BACK * workers.number:
            numbered_job = next(numbered, None)
            is_more = numbered_job is not None
            if numbered_job is not None:
                workers.start(*numbered_job)
        if workers.num_taken:
            ended.update(workers.finished())
        while ended and (num_yielded in ended or not ordered):
            yield ended.pop(num_yielded if ordered else next(iter(ended)))
            num_yielded += 1
