"""Jobs shared among processes, their results in the order of the jobs."""

import multiprocessing
import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any
from typing import TypeVar

from speechrows.console import ending_workers
from speechrows.console import starting_workers
from speechrows.errors import SpeechRowsError

Job = TypeVar("Job")
Result = TypeVar("Result")

_doers: list[Callable[[Any], Any]] = []  # of a worker: one


def in_order(
    open_doer: Callable[[], Callable[[Job], Result]], jobs: Sequence[Job], num_proc: int, died: str
) -> Iterator[Result]:
    """Do jobs in `num_proc` processes, or in this one; yields their results in order.

    `open_doer` is called once a process, and makes what does a job; it, jobs and results are pickled. `died`
    is what is said where a process dies.

    Raises:
        SpeechRowsError: one did.
    """
    num_proc = min(num_proc, len(jobs))
    if num_proc <= 1:
        yield from map(open_doer(), jobs)
        return
    # Spawned, not forked: threads of the tokenizer and of stores do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_proc, context, _begin, (open_doer,))
    try:
        with ending_workers():
            with starting_workers():
                results = [pool.submit(_do, job) for job in jobs]
            for future in results:  # pool.map would cancel what is left, over which an ended pool stumbles
                yield future.result()
    except BrokenProcessPool as error:
        raise SpeechRowsError(died) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(open_doer: Callable[[], Callable[[Any], Any]]) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the cores
    _doers.append(open_doer())


def _do(job: Any) -> Any:
    return _doers[0](job)
