"""Units to shards, from the corpus listing alone, so that no process count changes a byte."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from speechrows.corpora.entries import Entry
from speechrows.corpora.reader import Shard
from speechrows.corpora.reader import Unit

SHARD_BYTES = 1 << 30
_NUM_SHARDS = 8  # of a corpus that is too small for as many of full size
_LEAST_BYTES = 128 << 20  # of theirs: a second's work, and a process takes three to start


def shard_size(units: Sequence[Unit[Any]], most: int = SHARD_BYTES) -> int:
    """The bytes of a shard: `most`, or less where a small corpus is cut so that processes can share it.

    It follows from the units alone, whatever the number of processes. One stream is not cut: one process
    reads it.
    """
    num_bytes = sum(unit.num_bytes for unit in units)
    if num_bytes < 2 * _LEAST_BYTES or units[0].in_stream:
        return most
    return min(most, max(_LEAST_BYTES, -(-num_bytes // _NUM_SHARDS)))


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


def shards_of(split: str, shards: Sequence[tuple[str, Shard]]) -> list[tuple[str, Shard]]:
    """The shards that may have rows of a split, without the units that have none: archives are read once."""
    wanted = {split, "train"} if split == "validation" else {split}
    kept = [
        (task, replace(shard, units=tuple(unit for unit in shard.units if wanted & {*unit.splits})))
        for task, shard in shards
    ]
    return [(task, shard) for task, shard in kept if shard.units]
