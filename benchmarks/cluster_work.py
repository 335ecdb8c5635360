"""What the workers of benchmarks/cluster.py do."""

import time
from collections.abc import Callable

from speechrows.corpora.reader import Shard
from speechrows.workers.work import Progress


def open_simulated(seconds: float, progress: Progress) -> Callable[[Shard], int]:
    """Something that lasts so long, and gives a number."""

    def build(shard: Shard) -> int:
        time.sleep(seconds)
        progress(shard.num_bytes)
        return shard.number

    return build
