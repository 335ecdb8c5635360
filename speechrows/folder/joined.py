"""Rows of several indexes as one, so that a plan and a reader take rows of many folders."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from speechrows.folder.index import COLUMN_TYPES
from speechrows.folder.index import Index
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.folder.manifest import TaskFacts
from speechrows.folder.rows_folder import RowsFolder
from speechrows.types import Int32

_NOT_KEPT = ("num_turns",)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class JoinedIndex(IndexedRows):
    """The rows of `parts`, one part after another; `name` is what errors call them.

    Columns of a part are views of the joined ones, but for `shard`, which is empty there: it would count
    other shards. `facts` are, where several parts have a task, those of the first: parts are joined at one
    rate of audio tokens.
    """

    name: str
    parts: tuple[Index, ...]

    def __repr__(self) -> str:
        return f"JoinedIndex({self.name!r}: {len(self.parts)} indexes, {len(self):,} rows)"

    @cached_property
    def first_shards(self) -> list[int]:
        """The number of each part's first shard, and of all."""
        return [0, *accumulate(len(part.shards) for part in self.parts)]

    @cached_property
    def first_rows(self) -> list[int]:
        """The number of each part's first row, and of all."""
        return [0, *accumulate(len(part) for part in self.parts)]

    def part_of(self, shard: int) -> int:
        """The number of the part that a shard is of."""
        return bisect_right(self.first_shards, shard) - 1

    def folder_of(self, shard: int) -> RowsFolder:
        """The folder of a shard."""
        return self.parts[self.part_of(shard)].folder

    @property
    def address(self) -> str:
        """What errors call these rows."""
        return self.name

    @property
    def digest(self) -> str:
        """A digest of all shards: see Index.digest."""
        return hashlib.sha256(json.dumps([part.digest for part in self.parts]).encode()).hexdigest()[:32]

    def row_ids(self, rows: Sequence[int]) -> list[str]:
        """The names of some rows."""
        names: dict[int, str] = {}
        wanted = np.unique(np.array(rows, np.int64))
        for part, first in zip(self.parts, self.first_rows, strict=False):
            here = wanted[(wanted >= first) & (wanted < first + len(part))].tolist()
            own = part.row_ids([row - first for row in here]) if here else []
            names.update(zip(here, own, strict=True))
        return [names[row] for row in rows]

    def read_sources(self) -> Int32:
        """The number of each row's source [R], other ones in each part."""
        numbers, count = list[Int32](), 0
        for part in self.parts:
            numbers.append(part.read_sources() + np.int32(count))
            count = int(numbers[-1].max(initial=count - 1)) + 1
        return np.concatenate(numbers)


class Joining:
    """Joins indexes of `num_rows` in all, each read to where it will stand: none is in memory twice."""

    def __init__(self, num_rows: int) -> None:
        self._columns: dict[str, npt.NDArray[Any]] = {
            name: np.empty(num_rows, kind) for name, kind in COLUMN_TYPES.items() if name not in _NOT_KEPT
        }
        self._parts = list[Index]()
        self._first_row = self._first_shard = self._first_conversation = 0

    def allocate(self, name: str, count: int, kind: Any) -> npt.NDArray[Any]:
        """A column of the part that comes next: see Index.open."""
        if name not in self._columns:
            return np.empty(count, kind)
        return self._columns[name][self._first_row : self._first_row + count]

    def add(self, part: Index) -> None:
        """Add a part, the last one that was opened with `allocate`; columns that were replaced are copied."""
        span = slice(self._first_row, self._first_row + len(part))
        views = {name: column[span] for name, column in self._columns.items()}
        for name, view in views.items():
            if not np.shares_memory(view, getattr(part, name)):
                view[:] = getattr(part, name)
        views["conversation"] += np.int32(self._first_conversation)
        views["shard"] += np.int32(self._first_shard)
        self._parts.append(replace(part, **{**views, "shard": np.empty(0, np.int32)}))
        self._first_row, self._first_shard = span.stop, self._first_shard + len(part.shards)
        if len(part):
            self._first_conversation = int(views["conversation"][-1]) + 1

    def joined(self, name: str) -> JoinedIndex:
        """The joined index; `name` is what errors call it."""
        facts: dict[str, TaskFacts] = {}
        for part in self._parts:
            facts = {**part.facts, **facts}
        return JoinedIndex(
            config="",
            split="",
            shards=tuple(chain.from_iterable(part.shards for part in self._parts)),
            facts=facts,
            name=name,
            parts=tuple(self._parts),
            **self._columns,
        )
