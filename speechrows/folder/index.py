"""The index of a config as numpy columns, an entry a row: read from index/ alone, not from the shards.

10 million rows take 0.5 GB. The ids of rows and conversations are not kept: conversations are numbered,
and `row_ids` reads the few that are asked for.
"""

import hashlib
import json
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.folder.index_file import check_whole
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.folder.layout import CARD
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.shards import listed_shards
from speechrows.folder.sources import sources
from speechrows.types import Int32

Choice = TypeVar("Choice")

_BATCH_ROWS = 1 << 17
Allocate = Callable[[str, int, Any], npt.NDArray[Any]]  # of a column, its rows, its type
_COLUMNS: dict[str, type[np.int32] | type[np.int64]] = {
    "turn_number": np.int32,
    "num_turns": np.int32,
    "num_tokens": np.int32,
    "padded_tokens": np.int32,
    "num_samples": np.int64,
    "sampling_rate": np.int32,
    "row_group": np.int32,
    "audio_offset": np.int64,
    "audio_length": np.int32,  # Arrow's offsets hold no longer cell
}
COLUMN_TYPES = {**_COLUMNS, "conversation": np.int32, "shard": np.int32}


def _new_column(_: str, count: int, kind: Any) -> npt.NDArray[Any]:
    return np.empty(count, kind)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Index(IndexedRows):
    """The rows of a config and split of one folder."""

    folder: RowsFolder

    def folder_of(self, shard: int) -> RowsFolder:  # noqa: ARG002
        """The folder of a shard: the only one."""
        return self.folder

    @property
    def address(self) -> str:
        """Where the folder is."""
        return self.folder.address

    def __repr__(self) -> str:
        conversations = int(self.conversation[-1]) + 1 if len(self) else 0
        hours = float((self.num_samples / self.sampling_rate).sum()) / 3600
        return (
            f"Index({self.config!r}, {self.split!r}: {len(self):,} rows, {conversations:,} conversations, "
            f"{hours:,.2f} hours, {len(self.shards):,} shards)"
        )

    @staticmethod
    def open(
        folder: RowsFolder | str, config: str, split: str = "train", allocate: Allocate = _new_column
    ) -> "Index":
        """Read the index of a config, a stage or a union, as the folder's card lists it.

        `allocate` gives each column its place.

        Raises:
            UsageError: no such folder, config or split; or files that speechrows did not write.
            ShortfallError: the index contradicts itself.
        """
        if isinstance(folder, str):
            folder = _open_folder(folder)
        shards, facts = listed_shards(folder, _patterns(folder, config, split), split)
        num_rows, promised = sum(shard.rows for shard in shards), folder.num_rows(config, split)
        if promised not in (None, num_rows):
            raise ShortfallError(
                f"{folder.address}: {CARD} tells {promised} rows of {config}, {split}, the indexes "
                f"{num_rows}: one is of another build. Run the same build again, or download the folder again"
            )
        columns: dict[str, Any] = {
            name: allocate(name, num_rows, kind) for name, kind in COLUMN_TYPES.items()
        }
        at = _fill(columns, folder, split, shards)
        if at != num_rows:
            raise ShortfallError(
                f"{folder.address}: index/…/{split}.parquet has {at} lines of {config}, its shards promise "
                f"{num_rows} rows; build or download it again"
            )
        pa.default_memory_pool().release_unused()
        num_turns = columns.pop("num_turns")
        index = Index(folder=folder, config=config, split=split, shards=shards, facts=facts, **columns)
        index._check_turns(num_turns)
        return index

    @staticmethod
    def count(folder: RowsFolder | str, config: str, split: str = "train") -> tuple[RowsFolder, int]:
        """The opened folder, and the rows that `open` would read of it.

        Raises:
            UsageError: see open.
        """
        if isinstance(folder, str):
            folder = _open_folder(folder)
        shards, _ = listed_shards(folder, _patterns(folder, config, split), split)
        return folder, sum(shard.rows for shard in shards)

    def lines(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read columns of the index, in batches, a line a row in the order of the rows."""
        for batch, _ in _batches(self.folder, self.split, self.shards, columns):
            yield batch

    @property
    def digest(self) -> str:
        """A digest of the shards: equal if these are the same files, wherever they are."""
        entries = [(shard.path, shard.size, shard.footer_sha256) for shard in self.shards]
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:32]

    def read_sources(self) -> Int32:
        """The number of each row's source [R]: see `sources`."""
        return sources(_batches(self.folder, self.split, self.shards, ["conversation_id"]), self.shards)

    def row_ids(self, rows: Sequence[int]) -> list[str]:
        """The names of some rows: reads that column of the index, up to the last of them."""
        names: dict[int, str] = {}
        wanted = np.unique(np.array(rows, np.int64))
        at = 0
        for batch in self.lines(["row_id"]):
            for row in wanted[(wanted >= at) & (wanted < at + len(batch))].tolist():
                names[row] = str(batch["row_id"][row - at])
            at += len(batch)
            if len(names) == len(wanted):
                break
        return [names[row] for row in rows]

    def _check_turns(self, num_turns: Int32) -> None:
        """Check that each conversation of a whole task is complete, its turns in order from 0 on."""
        whole = np.broadcast_to(self.whole, len(self))
        for at in range(0, len(self), _BATCH_ROWS):
            here = slice(at, at + _BATCH_ROWS)
            turns, numbers = self.turn_number[here], self.conversation[here]
            before = self.turn_number[at - 1] if at else -1, self.conversation[at - 1] if at else -1
            after = self.conversation[at + len(turns)] if at + len(turns) < len(self) else -1
            begins = np.diff(numbers, prepend=before[1]) != 0
            ends = np.diff(numbers, append=after) != 0
            expected = np.where(begins, 0, np.append(before[0], turns[:-1]) + 1)
            wrong = turns != expected
            wrong |= ends & (turns + 1 != num_turns[here])
            wrong &= whole[here]
            if wrong.any():
                i = int(wrong.argmax())
                place = f"in the place of {expected[i]}" if turns[i] != expected[i] else "the last"
                raise ShortfallError(
                    f"{self.row_id(at + i)}: its conversation is not whole in the index: turn {turns[i]} "
                    f"stands {place}, expected 0 to {num_turns[at + i] - 1} in order. Build or "
                    "download the folder again"
                )


def _open_folder(address: str) -> RowsFolder:
    if address.endswith(".parquet"):
        raise UsageError(
            f"{address}: is a parquet file; expected a folder that `speechrows build` wrote, or a Hub "
            "dataset published from one: its index/ says how long rows are and where their clips lie"
        )
    return RowsFolder.open(address)


def _patterns(folder: RowsFolder, config: str, split: str) -> list[str]:
    splits = _choice(folder.configs(), config, f"{folder.address}: no config")
    return _choice(splits, split, f"{folder.address}: {config} has no split")


def _choice(choices: Mapping[str, Choice], name: object, absent: str) -> Choice:
    if isinstance(name, str) and name in choices:
        return choices[name]
    meant = did_you_mean(name, choices) if isinstance(name, str) else ""
    raise UsageError(f"{absent} {name!r}; it has {', '.join(choices)}{meant}")


def _batches(
    folder: RowsFolder, split: str, shards: Sequence[ShardEntry], columns: Sequence[str]
) -> Iterator[tuple[pa.RecordBatch, Int32]]:
    """The lines of these shards, batch by batch, with the number of the shard of each."""
    numbers = {shard.path: number for number, shard in enumerate(shards)}
    for task in dict.fromkeys(shard.task for shard in shards):
        with folder.open_index(task, split) as index:
            for batch in index.iter_batches(_BATCH_ROWS, columns=[*columns, "shard"], use_threads=False):
                check_whole(batch)
                paths: Any = batch["shard"]
                names = paths.dictionary.to_pylist()
                number = np.array([numbers.get(name, -1) for name in names], np.int32)[paths.indices]
                kept = number >= 0
                if kept.all():
                    yield batch, number
                elif kept.any():
                    yield batch.filter(pa.array(kept)), number[kept]


def _fill(
    columns: Mapping[str, npt.NDArray[Any]], folder: RowsFolder, split: str, shards: Sequence[ShardEntry]
) -> int:
    """Fill the columns with the lines of these shards; return their number."""
    at, conversation = 0, -1
    last: tuple[str, str] | None = None
    size = len(columns["shard"])
    for batch, number in _batches(folder, split, shards, ["conversation_id", *_COLUMNS]):
        end = at + len(batch)
        if end > size:
            return end
        ids = batch["conversation_id"]
        begins = np.ones(len(batch), bool)
        begins[0] = last != (shards[number[0]].task, ids[0].as_py())
        begins[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        columns["conversation"][at:end] = np.cumsum(begins) + conversation
        columns["shard"][at:end] = number
        for name in _COLUMNS:
            columns[name][at:end] = batch[name].to_numpy()
        conversation = int(columns["conversation"][end - 1])
        last = shards[number[-1]].task, ids[-1].as_py()
        at = end
    return at
