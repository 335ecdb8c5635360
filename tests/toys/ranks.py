"""train.py on several ranks of one machine, as torchrun starts them, but forked from a process with torch.

A rank of torchrun's own imports torch before it trains, which takes longer than a test's few steps.
"""

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate.state import AcceleratorState
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
    AcceleratorState._reset_state(reset_partial_state=True)  # of runs of the process that was forked
    gc.freeze()  # accelerate collects garbage after each run, and searches what was forked with it
    code = train.main(flags)
    names = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm") if name.exists()]
    sys.stdout.write(f"at exit: {' '.join(names)}\n")
    sys.stdout.flush()
    if code:
        sys.exit(code)
