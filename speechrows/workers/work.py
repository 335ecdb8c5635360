"""What workers do, and what an engine is: whoever has it done."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import Generic
from typing import Protocol
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
Progress = Callable[[int], object]


def unseen(_: int) -> None:
    """The progress that nobody looks at."""


@dataclass(frozen=True, kw_only=True)
class Work(Generic[Job, Result]):
    """A kind of job. What `open` is, jobs and results are pickled, where other processes do them.

    Attributes:
        open: makes the function that does a job; called once a process. It is given a function that is to be
            called with what was done of a job since its last call, in the unit of a progress bar.
        died: what is said where a process of this machine dies.
        name: what a job is called in a line.
        paths: local files and folders that every worker has to see.
        holds_model: on a cluster, it is opened by actors, each of which holds `num_gpus` GPUs.
    """

    open: Callable[[Progress], Callable[[Job], Result]]
    died: str
    name: Callable[[Job], str] = str
    paths: Sequence[str] = ()
    holds_model: bool = False
    num_gpus: int = 0


class Engine(Protocol):
    """Has jobs done."""

    @property
    def num_proc(self) -> int | None:
        """The most jobs that it does at a time; None where a cluster's size says it."""
        ...

    @property
    def cluster_gpus(self) -> int | None:
        """The GPUs of its cluster; None where it has none but this machine."""
        ...

    def with_at_most(self, num_proc: int | None) -> "Engine":
        """The engine with no more jobs at a time than that, where a number is given."""
        ...

    def is_here(self, num_jobs: int) -> bool:
        """Whether so many jobs would all be done in this process."""
        ...

    def run(
        self,
        work: Work[Any, Any],
        jobs: Iterable[Any],
        *,
        ordered: bool = True,
        progress: Progress = unseen,
    ) -> Iterator[Any]:
        """Do jobs; yields their results, in the order of the jobs, or as they end.

        Jobs are taken as they can be done, few ahead. A job None is none: no job behind it is taken before
        all results before it are yielded.

        Raises:
            SpeechRowsError: a worker died, or a job raised it. What a job raises comes as it is.
        """
        ...
