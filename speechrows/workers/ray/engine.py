"""The connection to a Ray cluster, and the engine that it is."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.workers.ray.cluster import Actors
from speechrows.workers.ray.cluster import Tasks
from speechrows.workers.ray.cluster import Tell
from speechrows.workers.ray.cluster import number_of
from speechrows.workers.results import results_of
from speechrows.workers.work import Progress
from speechrows.workers.work import Work
from speechrows.workers.work import unseen

_ANSWERS_S = 10.0


@contextmanager
def connected(address: str | None) -> Generator[None]:
    """Connect to a cluster, or start one of this machine.

    Without an address it is that of RAY_ADDRESS, else the one that runs here, else a new one.

    Raises:
        UsageError: there is none at the address.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a new one: it would report to its makers
    at_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=_that_answers(address),
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False,
        )
    except (OSError, RuntimeError, ValueError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "none, so a cluster of this machine"
        raise UsageError(
            f"--ray-address {where}: found {first_line(error):.200}; expected a cluster that runs. Start one "
            "(ray start --head), or give its address; where it said that it asks for a token, set "
            "RAY_AUTH_MODE=token"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
        # Ray leaves a handler of its own. With it, a fork may not end by SIGTERM: where another thread gets
        # the signal, the one that would run the handler goes on to wait for whatever it waits for.
        if at_sigterm is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, at_sigterm)


def _that_answers(address: str | None) -> str:
    """The address of the cluster; raises an OSError where nobody answers: Ray would wait for many minutes."""
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _knock_at(address)
        return address
    try:
        address = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray/ray_current_cluster").read_text().strip()
        _knock_at(address)
    except OSError:  # none was started, or it has ended since
        return "local"
    return address


def _knock_at(address: str) -> None:
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_S).close()


@dataclass(frozen=True, kw_only=True, slots=True)
class RayEngine:
    """An Engine of a cluster's workers, at most `num_proc` at a time; by default, one a CPU or GPU.

    `tell` gets a line where a job is done once more, and where another copy of it is started.
    """

    num_proc: int | None = None
    tell: Tell = str

    @property
    def cluster_gpus(self) -> int:
        """The GPUs of the cluster."""
        return number_of("GPU")

    def with_at_most(self, num_proc: int | None) -> "RayEngine":
        """See Engine."""
        numbers = [number for number in (self.num_proc, num_proc) if number is not None]
        return replace(self, num_proc=min(numbers, default=None))

    def is_here(self, num_jobs: int) -> bool:
        """See Engine: none is, however few there are."""
        return num_jobs == 0

    def run(
        self,
        work: Work[Any, Any],
        jobs: Iterable[Any],
        *,
        ordered: bool = True,
        progress: Progress = unseen,
    ) -> Iterator[Any]:
        """See Engine."""
        kind = Actors if work.holds_model else Tasks
        workers = kind(work, self.num_proc, progress, self.tell)
        try:
            yield from results_of(workers, jobs, ordered=ordered)
        finally:
            workers.close()
