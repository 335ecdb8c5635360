"""Which rows of an index a `where` keeps: by its columns, index/, scores, or columns of its shards."""

import hashlib
import json
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.scores import scores_of
from speechrows.mix.conditions import IN_INDEX
from speechrows.mix.conditions import IN_MEMORY
from speechrows.mix.conditions import IN_SCORES
from speechrows.mix.conditions import Bools
from speechrows.mix.conditions import Condition
from speechrows.mix.conditions import Dnf
from speechrows.mix.conditions import combined
from speechrows.storage.cache import cached

_BATCH_ROWS = 1 << 20
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, of the golden ratio
_WORD = 8  # bytes that are hashed at once
_HASHED_BYTES = 1 << 22  # at once, padded


def holding(index: Index, conditions: Iterable[Condition]) -> dict[Condition, Bools]:
    """For which rows each condition holds, [R]. A column is read once, whatever is asked of it.

    What shards say is kept in datasets' cache.

    Raises:
        ShortfallError: a shard has other rows than its index says, or can not be read.
    """
    holds = dict[Condition, Bools]()
    by_column = dict[str, list[Condition]]()
    for condition in dict.fromkeys(conditions):
        by_column.setdefault(condition.column, []).append(condition)
    for column, of_column in by_column.items():
        if column in IN_MEMORY or column in IN_INDEX or column in IN_SCORES:
            holds |= _evaluated(index, column, of_column)
        else:
            holds |= {condition: _kept(index, condition) for condition in of_column}
    return holds


def kept_rows(index: Index, where: Iterable[Dnf], holds: dict[Condition, Bools]) -> Bools:
    """The rows, [R], for which all of `where` holds; in whole tasks, for all of a conversation, or none."""
    kept = np.ones(len(index), bool)
    for dnf in where:
        kept &= combined(dnf, holds, len(index))
    whole = index.whole
    if kept.all() or not len(index) or not np.any(whole):
        return kept
    firsts = np.flatnonzero(np.diff(index.conversation, prepend=index.conversation[0] - 1))
    complete = np.logical_and.reduceat(kept, firsts)
    complete = np.repeat(complete, np.diff(firsts, append=len(index)))
    return np.where(whole, complete, kept)


def _evaluated(index: Index, column: str, conditions: list[Condition]) -> dict[Condition, Bools]:
    holds = {condition: np.empty(len(index), bool) for condition in conditions}
    at = 0
    for values in _values(index, column):
        for condition in conditions:
            holds[condition][at : at + len(values)] = condition.holds(values)
        at += len(values)
    return holds


def _values(index: Index, column: str) -> "Iterator[pa.Array[Any]]":
    """A column's values, in the order of the rows."""
    if column in IN_MEMORY:
        for at in range(0, len(index), _BATCH_ROWS):
            yield _in_memory(index, column, slice(at, at + _BATCH_ROWS))
    elif column in IN_INDEX:
        name = "conversation_id" if column == "hash" else column
        for batch in index.lines([name]):
            yield _hashes_of_runs(batch[name]) if column == "hash" else batch[name]
    elif column in IN_SCORES:
        table = scores_of(index.folder, index, [column])
        if table is None:
            raise UsageError(
                f"{index.address}: where: found no scores of {index.config}, {index.split}, for {column}; "
                f"expected those of `speechrows screen {index.address}`"
            )
        yield table[column].combine_chunks()
    else:
        yield from _in_shards(index, column)


def _in_memory(index: Index, column: str, rows: slice) -> "pa.Array[Any]":
    if column == "seconds":
        return pa.array(index.num_samples[rows] / index.sampling_rate[rows])
    if column == "task":
        tasks = pa.array([shard.task for shard in index.shards], pa.string())
        numbers: Any = pa.array(index.shard[rows])
        return tasks.take(numbers)
    return pa.array(getattr(index, column)[rows])


def _in_shards(index: Index, column: str) -> "Iterator[pa.Array[Any]]":
    from speechrows.rows.schema import LATER_COLUMNS  # noqa: PLC0415  # with it comes datasets, half a second

    for number, shard in enumerate(index.shards):
        index.check_shard(number)
        with index.folder.naming(shard.path), index.open_shard(number) as parquet:
            if column not in parquet.schema_arrow.names and column in LATER_COLUMNS:
                yield pa.nulls(shard.rows, pa.string() if column == "system" else pa.float64())
                continue
            count = 0
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=[column], use_threads=False):
                yield batch[column]
                count += len(batch)
        if count != shard.rows:
            raise ShortfallError(
                f"{index.address}: {shard.path}: found {count} rows, its index promises {shard.rows}; build "
                "or download it again"
            )


def _kept(index: Index, condition: Condition) -> Bools:
    recipe = json.dumps(["1", index.digest, condition.column, condition.operator, condition.value])
    name = f"where-{hashlib.sha256(recipe.encode()).hexdigest()[:32]}.npy"

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, np.packbits(_evaluated(index, condition.column, [condition])[condition]))

    def read(path: Path) -> Bools:
        return np.unpackbits(np.load(path), count=len(index)).astype(bool)

    return cached(name, read, write)


def _hashes_of_runs(ids: "pa.Array[Any]") -> "pa.Array[Any]":
    """The hashes of texts of which the same ones follow one another, as those of conversations do."""
    begins = np.ones(len(ids), bool)
    begins[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    firsts = np.flatnonzero(begins)
    texts: Any = ids.filter(pa.array(begins))
    return pa.array(np.repeat(hashes(texts), np.diff(firsts, append=len(ids))))


def hashes(ids: "pa.Array[Any]") -> npt.NDArray[np.float64]:
    """A number from 0 to 1 for each text, evenly spread, the same wherever it is computed."""
    _, ends, characters = [memoryview(buffer or b"") for buffer in ids.buffers()]
    offsets = np.frombuffer(ends, np.int32)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    counts = np.diff(offsets)
    width = -(-int(counts.max(initial=1)) // _WORD) * _WORD
    data = np.frombuffer(characters, np.uint8)[offsets[0] : offsets[-1]]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(data, (0, width)), width)
    numbers = counts.astype(np.uint64)
    step = max(1, _HASHED_BYTES // width)
    for at in range(0, len(ids), step):
        here = slice(at, at + step)
        texts = windows[offsets[:-1][here] - offsets[0]]
        texts *= np.arange(width) < counts[here, None]
        for place, word in enumerate(texts.view("<u8").T):
            salted = word + np.uint64((place + 1) * _MULTIPLIER % (1 << 64))
            numbers[here] += _mixed(salted) * (counts[here] > _WORD * place)
    return (_mixed(numbers) >> np.uint64(11)).astype(np.float64) / (1 << 53)


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The end of splitmix64: each bit of the result depends on all of a number's."""
    numbers = numbers ^ (numbers >> np.uint64(30))
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers
