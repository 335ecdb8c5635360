"""The rows that the page shows; of their files only what is looked at is read.

The index is read once for each config and split. Of a shard, a page needs the small columns of one
row group, and the bytes of a clip only when it is played or drawn.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerFast

from speechrows.errors import ShortfallError
from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.rows.schema import ARROW_SCHEMA
from speechrows.rows.schema import AUDIO_COLUMNS
from speechrows.text import tokenizers

Int64 = npt.NDArray[np.int64]

SMALL = [name for name in ARROW_SCHEMA.names if name not in AUDIO_COLUMNS]
_CELLS = [*SMALL, *(f"{name}.path" for name in AUDIO_COLUMNS)]
_MAX_TURNS = 100  # of a conversation, at once
# By the first bytes: a clip's name may say another type than its bytes have.
_TYPES = {b"RIFF": "audio/wav", b"fLaC": "audio/flac", b"OggS": "audio/ogg"}


def media_type(data: bytes) -> str:
    """Return the media type of a clip; what is no WAV, FLAC or Ogg is MP3."""
    return _TYPES.get(data[:4], "audio/mpeg")


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """The rows of a config and split, or of one task of it: `start` to `stop` of its index."""

    index: Index
    task: str | None
    start: int
    stop: int

    @cached_property
    def conversations(self) -> Int64:
        """The first row of each conversation, ascending."""
        numbers = self.index.conversation[self.start : self.stop]
        return np.flatnonzero(np.diff(numbers, prepend=-1)) + self.start

    def offset(self, row: int) -> int:
        """Return how many rows of its row group stand before a row."""
        starts = self.index.group_starts
        return row - int(starts[np.searchsorted(starts, row, "right") - 1])

    def conversation(self, row: int) -> tuple[int, int, int]:
        """Return the number of a row's conversation, from 0, and its rows `[start, stop)`."""
        number = int(np.searchsorted(self.conversations, row, "right")) - 1
        ends = [*self.conversations[number + 1 : number + 2].tolist(), self.stop]
        return number, int(self.conversations[number]), ends[0]

    def turns_around(self, row: int) -> range:
        """Return the rows of a row's conversation; of a very long one, those around the row."""
        _, start, stop = self.conversation(row)
        if stop - start > _MAX_TURNS:
            start = max(start, min(row - _MAX_TURNS // 2, stop - _MAX_TURNS))
        return range(start, min(stop, start + _MAX_TURNS))

    def task_of(self, row: int) -> str:
        """The task of a row."""
        return self.index.shards[int(self.index.shard[row])].task


class Library:
    """Reads a built folder, or a Hub dataset `org/name`, for the page. Threads may share it."""

    def __init__(self, address: str) -> None:
        self.folder = RowsFolder.open(address)
        self.splits = {config: list(splits) for config, splits in self.folder.configs().items()}
        self.index = lru_cache(4)(self._index)
        self.view = lru_cache(16)(self._view)
        self.table = lru_cache(16)(self._table)
        self.cell = lru_cache(8)(self._cell)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that the rows were made with."""
        return tokenizers.open_tokenizer(self.folder.tokenizer_folder())

    def tasks(self, config: str, split: str) -> list[str]:
        """Return the tasks whose rows a config shows: several for a union."""
        return list(self.index(config, split).facts)

    def _view(self, config: str, split: str, task: str | None = None) -> View:
        """The rows of a config and split, or of one of its tasks."""
        index = self.index(config, split)
        start, stop = 0, len(index)
        if task is not None:
            of_task = np.array([shard.task == task for shard in index.shards])[index.shard]
            rows = np.flatnonzero(of_task)  # in one run: the index of a task follows that of another
            start, stop = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        return View(index=index, task=task, start=start, stop=stop)

    def rows(self, view: View, rows: range) -> list[dict[str, Any]]:
        """Read rows of one conversation, without their audio: a clip's cell is its name alone."""
        cells: list[dict[str, Any]] = []
        for row in rows:
            table, offset = self._locate(view, row)
            cells += table.slice(offset, 1).to_pylist()
        return cells

    def clip(self, view: View, row: int, column: str) -> bytes:
        """Read the bytes of a clip, as published; b"" where a row has none."""
        index = view.index
        if column == "audio":
            shard, start = int(index.shard[row]), int(index.audio_offset[row])
            index.check_shard(shard)
            stop = start + int(index.audio_length[row])
            return self.folder.read_range(index.shards[shard].path, start, stop)
        return self.cell(view, row, column)

    def _index(self, config: str, split: str) -> Index:
        return Index.open(self.folder, config, split)

    def _locate(self, view: View, row: int) -> tuple[pa.Table, int]:
        """Return the small columns of a row's row group, and the row's offset in it."""
        index = view.index
        shard, group = int(index.shard[row]), int(index.row_group[row])
        index.check_shard(shard)
        table = self.table(index.shards[shard].path, group)
        offset = view.offset(row)
        if table["turn_number"][offset].as_py() != index.turn_number[row]:
            path = index.shards[shard].path
            raise ShortfallError(
                f"{self.folder.address}: row {offset} of row group {group} of {path} is another turn than "
                "the index says; build or download the folder again"
            )
        return table, offset

    def _table(self, path: str, group: int) -> pa.Table:
        return self.read_group(path, group, _CELLS)

    def _cell(self, view: View, row: int, column: str) -> bytes:
        """Read a clip whose bytes the index does not locate: its column, of one row group."""
        table, offset = self._locate(view, row)
        if table[column][offset].as_py() is None:
            return b""
        path = view.index.shards[int(view.index.shard[row])].path
        clips = self.read_group(path, int(view.index.row_group[row]), [f"{column}.bytes"])
        return pc.struct_field(clips[column], "bytes")[offset].as_py() or b""

    def read_group(self, path: str, group: int, columns: Sequence[str]) -> pa.Table:
        """Read some columns of a row group."""
        with self.folder.open_parquet(path) as shard:
            return shard.read_row_group(group, columns=list(columns), use_threads=False)


def audio_name(row: Mapping[str, Any], column: str) -> str | None:
    """Return the name of a row's clip; None where it has none."""
    cell = row[column]
    return None if cell is None else cell["path"]
