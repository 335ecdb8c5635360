"""Units to shards, from the corpus listing alone, so that no process count changes a byte."""

from collections.abc import Sequence
from typing import Any

from speechrows.corpora.reader import Shard
from speechrows.corpora.reader import Unit

SHARD_BYTES = 1 << 30


def plan_shards(units: Sequence[Unit[Any]], shard_bytes: int = SHARD_BYTES) -> list[Shard]:
    """Runs of units of about `shard_bytes`, in order; a unit is never divided."""
    shards: list[Shard] = []
    pending: list[Unit[Any]] = []
    num_bytes = 0
    for unit in units:
        if pending and num_bytes + unit.num_bytes > shard_bytes:
            shards.append(Shard(number=len(shards), units=tuple(pending)))
            pending, num_bytes = [], 0
        pending.append(unit)
        num_bytes += unit.num_bytes
    if pending:
        shards.append(Shard(number=len(shards), units=tuple(pending)))
    return shards
