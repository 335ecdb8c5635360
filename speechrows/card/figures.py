"""What a task's rows measure: read from its index and one small column, never from audio."""

from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechrows.folder.layout import index_path
from speechrows.rows.curriculum import STAGE_LIMITS

_COLUMNS = ["conversation_id", "conversation_tokens", "num_tokens", "num_samples", "sampling_rate"]
_ROWS_AT_ONCE = 1 << 16
_AT_ONCE = 16  # shards: in a store, each is a few requests

OpenShard = Callable[[str], AbstractContextManager[pq.ParquetFile]]  # of a built folder, by its path


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Rows of a task and split, or of several: an entry a row, `turns` an entry a conversation."""

    seconds: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int32]  # without padding
    conversation_tokens: npt.NDArray[np.int32]
    is_first: npt.NDArray[np.bool_]  # row of its conversation

    @property
    def turns(self) -> npt.NDArray[np.int64]:
        """Rows a conversation."""
        starts = np.flatnonzero(self.is_first)
        return np.diff(starts, append=len(self.is_first))

    def sums(self, config: str) -> tuple[float, int]:
        """Hours and conversations of the rows that a config shows: a stage, those below its limit."""
        limit = STAGE_LIMITS.get(config)
        shown = np.ones(len(self.seconds), np.bool_) if limit is None else self.conversation_tokens <= limit
        return float(self.seconds[shown].sum()) / 3600, int(self.is_first[shown].sum())


def measure(out: Path, task: str, split: str) -> Measured:
    """The rows of a task and split of a built folder, by its index."""
    parts: list[dict[str, npt.NDArray[Any]]] = []
    last: str | None = None
    with pq.ParquetFile(out / index_path(task, split)) as index:
        # In batches: the ids of a large corpus weigh more than all that is kept of it.
        for batch in index.iter_batches(_ROWS_AT_ONCE, columns=_COLUMNS, use_threads=False):
            ids = batch["conversation_id"]
            changes: Any = pc.not_equal(ids[1:], ids[:-1])
            first = np.concatenate([[ids[0].as_py() != last], changes.to_numpy(zero_copy_only=False)])
            columns = {name: batch[name].to_numpy() for name in _COLUMNS[1:]}
            parts.append({**columns, "is_first": first})
            last = ids[-1].as_py()
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Measured(
        seconds=joined["num_samples"] / joined["sampling_rate"],
        tokens=joined["num_tokens"],
        conversation_tokens=joined["conversation_tokens"],
        is_first=joined["is_first"],
    )


def join(parts: Sequence[Measured]) -> Measured:
    """Several splits as one."""
    return Measured(
        seconds=np.concatenate([part.seconds for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
        conversation_tokens=np.concatenate([part.conversation_tokens for part in parts]),
        is_first=np.concatenate([part.is_first for part in parts]),
    )


def emotions(open_shard: OpenShard, shards: Sequence[str]) -> Counter[str]:
    """Rows by emotion, of shards of a built folder; those without one are not counted."""

    def column(path: str) -> Any:
        with open_shard(path) as shard:
            return shard.read(["emotion"], use_threads=False)["emotion"].drop_null().value_counts()

    rows = Counter[str]()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for counts in pool.map(column, shards):
            rows.update({count["values"]: count["counts"] for count in counts.to_pylist()})
    return rows
