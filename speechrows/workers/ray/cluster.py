"""Jobs on a Ray cluster: as tasks, or by actors that hold a model.

A job is done once more where its worker or its node is lost, and a copy of a slow one is started where there
is nothing else to do: the first that ends counts. So a job may be done twice, and at the same time.
"""

import statistics
import time
from abc import ABC
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from multiprocessing.reduction import ForkingPickler
from typing import Any

import ray
from ray.exceptions import RayError
from ray.exceptions import RayTaskError

from speechrows.errors import SpeechRowsError
from speechrows.errors import first_line
from speechrows.workers.ray.worker import Opening
from speechrows.workers.ray.worker import Outcome
from speechrows.workers.ray.worker import Worker
from speechrows.workers.ray.worker import do_task
from speechrows.workers.work import Progress
from speechrows.workers.work import Work

TRIES = 4  # of a job whose worker dies
SLOW = 3.0  # times as long as others: then a copy of a job is started
SLOW_S = 60.0  # seconds that a job may last at any rate
_ENOUGH = 3  # jobs that tell how long they last
_LOOK_S = 0.5  # seconds between looks at what is slow
_COUNT_S = 10.0  # and between counts of the CPUs
_GONE_S = 10.0  # to wait for jobs that were ended
_AN_ACTOR = 2  # jobs: the one that it does, and the next, on its way

Tell = Callable[[str], object]


def number_of(resource: str) -> int:
    """How many CPUs, or GPUs, the nodes of the cluster have together."""
    return int(ray.cluster_resources().get(resource, 0))


@dataclass(kw_only=True)
class _Running:
    """A job that is being done; `error` is what one of its copies raised while there was another."""

    name: str
    packed: bytes
    started: float
    num_lost: int = 0
    copies: set[Any] = field(default_factory=set[Any])
    error: Exception | None = None


class _Cluster(ABC):
    """The workers of a cluster, as Workers of results.py."""

    def __init__(self, work: Work[Any, Any], progress: Progress, tell: Tell) -> None:
        self._work, self._progress, self._tell = work, progress, tell
        self._opening = ray.put(Opening.of(work))
        self._running: dict[int, _Running] = {}
        self._numbers: dict[Any, int] = {}  # of the jobs that copies are of
        self._ending: list[Any] = []  # copies that are not needed any more
        self._seconds: deque[float] = deque(maxlen=100)  # that jobs lasted, of late

    @property
    @abstractmethod
    def number(self) -> int:
        """See Workers."""

    @abstractmethod
    def _submit(self, running: _Running) -> Any:
        """Have a copy of a job done somewhere."""

    @abstractmethod
    def _end(self, copy: Any) -> None:
        """End a copy of a job, if that ends no other."""

    @abstractmethod
    def _free(self, copy: Any, *, is_lost: bool) -> None:
        """Note that a copy has ended, or is lost with its worker."""

    @property
    def num_taken(self) -> int:
        return len(self._numbers)

    def start(self, number: int, job: Any) -> None:
        packed = bytes(ForkingPickler.dumps(job))
        self._running[number] = _Running(name=self._work.name(job), packed=packed, started=time.monotonic())
        self._start_copy(number)

    def _start_copy(self, number: int) -> None:
        running = self._running[number]
        copy = self._submit(running)
        running.copies.add(copy)
        self._numbers[copy] = number

    def finished(self) -> Sequence[tuple[int, Any]]:
        results: list[tuple[int, Any]] = []
        while not results:
            self._double_slow_jobs()
            copies = [*self._numbers]
            ended, _ = ray.wait(copies, timeout=_LOOK_S)
            if ended:
                ended, _ = ray.wait(copies, num_returns=len(copies), timeout=0)
            for copy in ended:
                if copy in self._numbers:  # else another copy of its job ended before it
                    results += self._take(copy)
        return results

    def _take(self, copy: Any) -> list[tuple[int, Any]]:
        """The number and result of the job whose copy has ended; none where it goes on."""
        number = self._numbers.pop(copy)
        running = self._running[number]
        running.copies.remove(copy)
        try:
            outcome: Outcome = ray.get(copy)
        except RayError as error:
            self._free(copy, is_lost=True)
            self._go_on_without(number, error)
            return []
        self._free(copy, is_lost=False)
        if outcome.error is not None:
            running.error = outcome.error
            if not running.copies:
                raise outcome.error
            return []  # it may be of this copy alone: the other one renamed its files at the same time
        for other in running.copies:
            self._end(other)
            self._ending.append(other)
            del self._numbers[other]
        del self._running[number]
        self._seconds.append(outcome.seconds)
        self._progress(outcome.progress)
        return [(number, outcome.result)]

    def _go_on_without(self, number: int, error: RayError) -> None:
        """Do a job once more whose worker was lost, unless there is another copy of it."""
        running = self._running[number]
        running.num_lost += 1
        if running.copies:
            return
        if running.error is not None:
            raise running.error
        cause = error.cause if isinstance(error, RayTaskError) else error
        why = f"{type(cause).__name__}: {first_line(cause):.200}"
        if isinstance(error, RayTaskError):
            raise SpeechRowsError(
                f"{running.name}: a worker can not begin ({why}); expected the same packages on every node, "
                "and Ray's token, if it has one. Install speechrows there, with the same extras"
            ) from error
        if running.num_lost == TRIES:
            raise SpeechRowsError(
                f"{running.name}: its worker died {TRIES} times, killed or out of memory ({why}). Give nodes "
                "more memory, or fewer jobs at a time (--num-proc N), and run the same command again"
            ) from error
        self._tell(f"{running.name}: its worker was lost ({why}); it is done once more")
        self._start_copy(number)

    def _double_slow_jobs(self) -> None:
        """Start copies of slow jobs where workers are free: there is nothing else to do."""
        if len(self._seconds) < _ENOUGH or self.num_taken >= self.number:
            return
        usual, now = statistics.median(self._seconds), time.monotonic()
        for number, running in self._running.items():
            seconds = now - running.started
            is_slow = seconds > max(SLOW_S, SLOW * usual) and len(running.copies) == 1
            if is_slow and self.num_taken < self.number:
                self._tell(
                    f"{running.name}: lasts {seconds:.0f} s, others {usual:.1f} s; a second copy is started, "
                    "the first that ends counts"
                )
                self._start_copy(number)

    def close(self) -> None:
        """End what is being done, and wait until it has ended."""
        for copy in self._numbers:
            self._end(copy)
        self._ending += self._numbers
        if self._ending:
            ray.wait(self._ending, num_returns=len(self._ending), timeout=_GONE_S)


class Tasks(_Cluster):
    """Tasks, of a CPU each: a worker process does one after another."""

    def __init__(self, work: Work[Any, Any], num_proc: int | None, progress: Progress, tell: Tell) -> None:
        super().__init__(work, progress, tell)
        self._num_proc, self._num_cpus, self._counted = num_proc, 0, -_COUNT_S

    @property
    def number(self) -> int:
        """As many as were asked for, or as the cluster has CPUs: nodes come and go."""
        if self._num_proc is not None:
            return self._num_proc
        if time.monotonic() - self._counted > _COUNT_S:
            self._num_cpus, self._counted = max(1, number_of("CPU")), time.monotonic()
        return self._num_cpus

    def _submit(self, running: _Running) -> Any:
        # In a list, the opening is not fetched for each task, but once a process.
        return do_task.remote(self._opening.hex(), [self._opening], running.packed)

    def _end(self, copy: Any) -> None:
        ray.cancel(copy, force=True)

    def _free(self, copy: Any, *, is_lost: bool) -> None:
        """Nothing: Ray gives its worker the next task."""


class Actors(_Cluster):
    """Actors, of a CPU each, and of GPUs, that hold what was opened."""

    def __init__(self, work: Work[Any, Any], num_proc: int | None, progress: Progress, tell: Tell) -> None:
        super().__init__(work, progress, tell)
        self._kind: Any = ray.remote(Worker).options(num_cpus=1, num_gpus=work.num_gpus)
        self._loads: dict[Any, int] = {}  # how many copies an actor has to do
        self._actors: dict[Any, Any] = {}  # that copies are done by
        most = number_of("GPU") // work.num_gpus if work.num_gpus else number_of("CPU")
        for _ in range(num_proc or max(1, most)):
            self._add()

    def _add(self) -> None:
        self._loads[self._kind.remote([self._opening])] = 0

    @property
    def number(self) -> int:
        """See Workers."""
        return _AN_ACTOR * len(self._loads)

    def _submit(self, running: _Running) -> Any:
        busy = {self._actors[copy] for copy in running.copies}
        actor = min({*self._loads} - busy or self._loads, key=lambda actor: self._loads[actor])
        copy = actor.do.remote(running.packed)
        self._actors[copy] = actor
        self._loads[actor] += 1
        return copy

    def _free(self, copy: Any, *, is_lost: bool) -> None:
        actor = self._actors.pop(copy)
        if actor in self._loads:
            self._loads[actor] -= 1
        if is_lost and self._loads.pop(actor, None) is not None:
            self._add()

    def _end(self, copy: Any) -> None:
        """Nothing: its actor has others to do."""

    def close(self) -> None:
        """End the actors, and with them what they do."""
        for actor in self._loads:
            ray.kill(actor)
        super().close()
