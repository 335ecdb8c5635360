"""Units to shards, from the corpus listing alone, so that no process count changes a byte."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from speechrows.corpora.entries import Entry
from speechrows.corpora.reader import Shard
from speechrows.corpora.reader import Unit

SHARD_BYTES = 1 << 30


def plan_shards(
    units: Sequence[Unit[Any]], shard_bytes: int = SHARD_BYTES, listing: Sequence[Entry] = ()
) -> list[Shard]:
    """Runs of units of about `shard_bytes`, in order; a unit is never divided.

    Each knows the entries of its files in the `listing` that they were planned from.
    """
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
    entries = {entry.path: entry for entry in listing}
    return [replace(shard, entries=_entries(shard, entries)) for shard in shards]


def _entries(shard: Shard, entries: Mapping[str, Entry]) -> tuple[Entry, ...]:
    paths = dict.fromkeys(path for unit in shard.units for path in unit.paths)
    return tuple(entries[path] for path in paths if path in entries)
