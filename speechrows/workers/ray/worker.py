"""What a worker process of a Ray cluster does: it opens a work once, and does jobs of it."""

import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any
from typing import cast

import ray

from speechrows.errors import SpeechRowsError
from speechrows.errors import UsageError
from speechrows.errors import describe_error
from speechrows.workers.work import Progress
from speechrows.workers.work import Work


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What opens a work in a process, and where the driver finds modules and files."""

    modules: Sequence[str]
    folder: str
    paths: Sequence[str]
    open: bytes

    @staticmethod
    def of(work: Work[Any, Any]) -> "Opening":
        """The opening of a work, in the driver."""
        packed = bytes(ForkingPickler.dumps(work.open))
        return Opening(modules=[*sys.path], folder=os.getcwd(), paths=[*work.paths], open=packed)

    def doer(self, progress: Progress) -> Callable[[Any], Any]:
        """Open the work in this process.

        Raises:
            UsageError: a path is not seen here.
        """
        sys.path += [folder for folder in self.modules if folder not in sys.path]
        with suppress(OSError):  # relative paths are of the folder in which the command runs
            os.chdir(self.folder)
        for path in self.paths:
            if not os.path.exists(path):
                raise UsageError(
                    f"{path}: is not seen by {platform.node()}, a node of the cluster; expected a disk that "
                    "all nodes see. Give a folder on one, or --engine local"
                )
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes of a node share its cores
        return _unpacked(self.open)(progress)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a job: its result, or what it raised."""

    result: Any = None
    error: Exception | None = None
    progress: int = 0
    seconds: float = 0.0


class Worker:
    """Does jobs of a work, which it opens for the first."""

    def __init__(self, opening: Sequence[Any]) -> None:
        self._opening: Opening = ray.get(opening[0])
        self._do: Callable[[Any], Any] | None = None
        self._progress = 0

    def do(self, packed: bytes) -> Outcome:
        """Do a job. What it raises is given back: Ray would wrap it, and do the job once more."""
        started, self._progress = time.monotonic(), 0
        try:
            self._do = self._do or self._opening.doer(self._add_progress)
            result = self._do(_unpacked(packed))
        except Exception as error:
            return Outcome(error=_portable(error))
        return Outcome(result=result, progress=self._progress, seconds=time.monotonic() - started)

    def _add_progress(self, amount: int) -> None:
        self._progress += amount


def _unpacked(packed: bytes) -> Any:
    return cast(Any, ForkingPickler).loads(packed)  # which typeshed takes for a method


def _portable(error: Exception) -> Exception:
    """An error as it is, with its traceback where it is a bug; in words where it can not be sent."""
    if not isinstance(error, SpeechRowsError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        _unpacked(bytes(ForkingPickler.dumps(error)))
    except Exception:
        return SpeechRowsError(describe_error(error))
    return error


_workers: dict[str, Worker] = {}  # of this process: one, by the work that it does


@ray.remote(num_cpus=1, max_retries=0)
def do_task(work: str, opening: Sequence[Any], packed: bytes) -> Outcome:
    """Do a job of a work in this process, which keeps what it has opened."""
    if work not in _workers:
        _workers.clear()
        _workers[work] = Worker(opening)
    return _workers[work].do(packed)
