"""train.py on several ranks of one machine, as torchrun starts them, but forked from a process with torch.

A rank of torchrun's own imports torch before it trains, which takes longer than a test's few steps. What they
are forked from is not the tests' process: they would have what other tests left there, such as locks that
threads held, or a handler of SIGTERM, with which a rank may never end.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.launcher import LaunchConfig
from torch.distributed.launcher import elastic_launch

import train


def launch(num_ranks: int, *runs: Sequence[str]) -> None:
    """Train on so many ranks, one run after another; raises where a rank fails."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_ranks,
        run_id="ranks",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork",
    )
    for flags in runs:
        elastic_launch(config, _train)(flags)


def _train(flags: Sequence[str]) -> None:
    """Train, then name the threads that the rank still has."""
    gc.freeze()  # accelerate collects garbage after each run, and searches what was forked with it
    code = train.main(flags)
    names = []
    for name in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it has just ended
            names.append(name.read_text().strip())
    sys.stdout.write(f"at exit: {' '.join(names)}\n")
    sys.stdout.flush()
    if code:
        sys.exit(code)
