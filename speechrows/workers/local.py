"""Jobs in this process, or in several of this machine."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from collections.abc import Sized
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import Future
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from multiprocessing.connection import wait as wait_for_handle
from typing import Any

from speechrows.console import ending_workers
from speechrows.console import starting_workers
from speechrows.console import worker_context
from speechrows.errors import SpeechRowsError
from speechrows.workers.results import results_of
from speechrows.workers.work import Progress
from speechrows.workers.work import Work
from speechrows.workers.work import unseen

_A_PROCESS = 2  # jobs: the one that it does, and the next


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalEngine:
    """An Engine of `num_proc` processes; with one, or for a single job, all is done in this one.

    The processes import the script that asks for more than one: it has to guard its own start by
    `if __name__ == "__main__"`. They end with this one, and do not hear Ctrl-C.
    """

    num_proc: int = 1
    cluster_gpus: None = None

    def with_at_most(self, num_proc: int | None) -> "LocalEngine":
        """See Engine."""
        return replace(self, num_proc=min(self.num_proc, num_proc or self.num_proc))

    def is_here(self, num_jobs: int) -> bool:
        """See Engine."""
        return min(self.num_proc, num_jobs) <= 1

    def run(
        self,
        work: Work[Any, Any],
        jobs: Iterable[Any],
        *,
        ordered: bool = True,
        progress: Progress = unseen,
    ) -> Iterator[Any]:
        """See Engine."""
        most = len(jobs) if isinstance(jobs, Sized) else self.num_proc
        if not self.is_here(most):
            with _processes(work, min(self.num_proc, most), progress) as workers:
                yield from results_of(workers, jobs, ordered=ordered)
        elif most:
            yield from map(work.open(progress), (job for job in jobs if job is not None))


HERE = LocalEngine()


class _Processes:
    """The processes of a pool, as Workers of results.py."""

    def __init__(self, pool: ProcessPoolExecutor, number: int, done: Any, progress: Progress) -> None:
        self.number = number
        self._pool, self._done, self._progress, self._seen = pool, done, progress, 0
        self._numbers: dict[Future[Any], int] = {}

    @property
    def num_taken(self) -> int:
        return len(self._numbers)

    def start(self, number: int, job: Any) -> None:
        with starting_workers():
            self._numbers[self._pool.submit(_do, job)] = number

    def finished(self) -> Sequence[tuple[int, Any]]:
        ended: set[Future[Any]] = set()
        while not ended:
            ended, _ = wait(self._numbers, timeout=0.2, return_when=FIRST_COMPLETED)
            now = int(self._done.get_obj().value)  # without its lock: a killed worker may hold that
            self._progress(now - self._seen)
            self._seen = now
        return [(self._numbers.pop(future), future.result()) for future in ended]


@contextmanager
def _processes(work: Work[Any, Any], num_proc: int, progress: Progress) -> Generator[_Processes]:
    context = worker_context(work.open)
    done = context.Value("q", 0)
    pool = ProcessPoolExecutor(num_proc, context, _begin, (work.open, done, dict(os.environ)))
    try:
        with ending_workers():
            yield _Processes(pool, _A_PROCESS * num_proc, done, progress)
    except BrokenProcessPool as error:
        raise SpeechRowsError(work.died) from error
    finally:
        pool.shutdown(cancel_futures=True)


_opening: tuple[Callable[[Progress], Callable[[Any], Any]], Any] | None = (
    None  # of a worker: set at its start
)
_doer: Callable[[Any], Any] | None = None  # made for its first job, whose error what it raises is


def _begin(
    open_doer: Callable[[Progress], Callable[[Any], Any]], done: Any, environment: dict[str, str]
) -> None:
    global _opening
    _opening = open_doer, done
    os.environ.clear()  # which is that of the process it was forked from: older than what a notebook has set
    os.environ.update(environment)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the cores


def _end_with(sentinel: int) -> None:
    """End this process as soon as its parent does: no orphan writes into a folder."""
    with suppress(OSError):
        wait_for_handle([sentinel])
    os._exit(1)


def _do(job: Any) -> Any:
    global _doer
    if _doer is None:
        assert _opening is not None
        open_doer, done = _opening

        def progress(amount: int) -> None:
            with done.get_lock():
                done.value += amount

        _doer = open_doer(progress)
    return _doer(job)
