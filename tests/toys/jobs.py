"""Jobs for workers: what each does stands in its name. A job leaves a mark as it begins: it was tried."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from speechrows.errors import ShortfallError
from speechrows.workers.work import Progress
from speechrows.workers.work import Work


@dataclass(frozen=True)
class Job:
    number: int
    does: str = "squares"
    marks: str = ""

    def __str__(self) -> str:
        return f"job {self.number}"


def open_doer(progress: Progress) -> Callable[[Job], int]:
    def do(job: Job) -> int:
        is_first = not tried(job)
        if job.marks:
            Path(job.marks, f"{job.number}-{os.getpid()}-{time.monotonic_ns()}").touch()
        if job.does == "kills" or (job.does == "kills once" and is_first):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.does == "waits" or (job.does == "waits once" and is_first):
            time.sleep(60)
        if job.does == "falls short":
            raise ShortfallError(f"{job}: fell short")
        if job.does == "has a bug":
            raise KeyError(job.number)
        progress(1)
        return job.number**2

    return do


def tried(job: Job) -> list[int]:
    """The processes in which a job has begun, in order."""
    if not job.marks:
        return []
    marks = sorted(Path(job.marks).glob(f"{job.number}-*"), key=lambda mark: int(mark.name.split("-")[2]))
    return [int(mark.name.split("-")[1]) for mark in marks]


SQUARES = Work[Job, int](open=open_doer, died="a process died")
