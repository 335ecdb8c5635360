"""The engines by name, and the flags that choose one."""

import argparse
import os
from collections.abc import Callable
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from speechrows.errors import UsageError
from speechrows.workers.local import LocalEngine
from speechrows.workers.work import Engine

ENGINES = ("local", "ray")


def add_engine_flags(parser: argparse.ArgumentParser, processes: str = "processes (default: 1") -> None:
    """Add --num-proc, --engine and --ray-address; `processes` begins the help of the first."""
    add = parser.add_argument
    add(
        "--num-proc",
        type=int,
        metavar="N",
        help=f"{processes}; with --engine ray workers, one for each CPU or GPU of the cluster)",
    )
    add(
        "--engine",
        choices=ENGINES,
        default="local",
        help="who works: this machine, or a Ray cluster that sees the same disks (default: %(default)s)",
    )
    add(
        "--ray-address",
        metavar="ADDRESS",
        help="the cluster (default: RAY_ADDRESS, else one that runs on this machine, else a new one)",
    )


@contextmanager
def engine_of(options: argparse.Namespace, tell: Callable[[str], object]) -> Generator[Engine]:
    """The engine that flags choose, connected to its cluster.

    Raises:
        UsageError: flags that contradict each other, no ray, or no cluster at the address.
    """
    if options.num_proc is not None and options.num_proc < 1:
        raise UsageError(f"--num-proc: found {options.num_proc}, expected at least 1")
    if options.engine == "local":
        if options.ray_address is not None:
            raise UsageError(f"--ray-address {options.ray_address}: found --engine local; give --engine ray")
        yield LocalEngine(num_proc=options.num_proc or 1)
        return
    if Path("~/.ray/auth_token").expanduser().exists():
        # `ray start` asks for this token as soon as there is one; who connects has to be told before it is
        # imported that he is to give it.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        from speechrows.workers.ray import engine  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise UsageError(f"found {error}; --engine ray needs: pip install 'speechrows[ray]'") from error
    with engine.connected(options.ray_address):
        yield engine.RayEngine(num_proc=options.num_proc, tell=tell)
