"""Rows' tokens and codes in a temporary file of this process, where any row is one read.

A plan asks for rows in random order, and parquet gives row groups. So the first time that a row of a
row group is needed, all rows of the group are written to a temporary file (disk_blocks.py). In memory a
row takes 12 bytes: place and size of its record in that file.
"""

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speechrows.errors import ShortfallError
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.folder.placeholders import Placeholders
from speechrows.loader.read.disk_blocks import DiskBlocks
from speechrows.loader.read.records import RowTokens
from speechrows.loader.read.records import from_records
from speechrows.loader.read.records import to_records
from speechrows.loader.read.rowgroup import AGAIN
from speechrows.loader.read.rowgroup import ReadRowGroup
from speechrows.loader.read.rowgroup import read_row_group
from speechrows.types import IGNORE_INDEX
from speechrows.types import Int32

_LOCKS = 64


class RowStore:
    """The tokens and codes of an index' rows, read from parquet when first needed; for several threads.

    The file takes about 4 bytes a token and 100 a row, in `TMPDIR`. If `audio_id`, the id of the audio token,
    is given, each row is checked to have as many placeholders as its clip takes.
    """

    def __init__(
        self,
        index: IndexedRows,
        *,
        read_row_group: ReadRowGroup = read_row_group,
        audio_id: int | None = None,
    ) -> None:
        self._index = index
        self._read_row_group = read_row_group
        self._audio_id = audio_id
        self._placeholders = Placeholders.of(index)
        self._groups = np.append(index.group_starts, len(index))
        self._records = DiskBlocks()
        self._begins = np.zeros(len(index), np.int64)
        self._sizes = np.zeros(len(index), np.int32)  # blocks; 0 where a row was not read yet
        self._filling = [threading.Lock() for _ in range(_LOCKS)]  # a row group's is its number, modulo

    def close(self) -> None:
        """Close the temporary file, which deletes it."""
        self._records.close()

    def __del__(self) -> None:
        if hasattr(self, "_records"):
            self.close()

    def read(self, rows: Int32) -> RowTokens:
        """The tokens and codes of these rows, in this order.

        Raises:
            ShortfallError: a shard, or a row in it, is not what the index says.
        """
        sizes = self._sizes.take(rows)
        if not sizes.all():
            groups = np.searchsorted(self._groups, rows[sizes == 0], "right") - 1
            self._fill_groups(np.unique(groups).tolist())
            sizes = self._sizes.take(rows)
        return from_records(self._records.take(self._begins.take(rows), sizes), sizes)

    def _fill_groups(self, groups: Sequence[int]) -> None:
        """Read row groups, last those that other threads are reading: so each reads another one."""
        being_read: list[int] = []
        for group in groups:
            lock = self._filling[group % _LOCKS]
            if not lock.acquire(blocking=False):
                being_read.append(group)
                continue
            try:
                self._fill(group)
            finally:
                lock.release()
        for group in being_read:
            with self._filling[group % _LOCKS]:
                self._fill(group)

    def _fill(self, group: int) -> None:
        """Read the rows of a row group, unless another thread did meanwhile."""
        first, end = self._groups[group : group + 2].tolist()
        if self._sizes[first]:
            return
        shard = int(self._index.shard[first])
        self._index.check_shard(shard)
        tokens = self._read_row_group(self._index, shard, int(self._index.row_group[first]))
        self._check(tokens, first, end)
        values, sizes = to_records(tokens)
        self._begins[first:end] = self._records.append(values) + np.cumsum(sizes) - sizes
        self._sizes[first:end] = sizes  # last: a size tells other threads that the row is there

    def _check(self, tokens: RowTokens, first: int, end: int) -> None:
        """Check that a row group has the rows and lengths of the index, and labels that records can hold."""
        index, path = self._index, self._index.shards[self._index.shard[first]].path
        num_rows, num_ids = len(tokens.row_ids), len(tokens.input_ids)
        if (num_rows, num_ids) != (end - first, tokens.num_tokens.sum()):
            raise ShortfallError(
                f"{path}: found {num_rows} rows and {num_ids} ids in row group {index.row_group[first]}, "
                f"expected {end - first} and {tokens.num_tokens.sum()}. {AGAIN}"
            )
        expected = index.num_tokens[first:end]
        _refuse(tokens, tokens.num_tokens != expected, "num_tokens", tokens.num_tokens, expected)
        row_of = np.repeat(np.arange(end - first), tokens.num_tokens)

        def count(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
            return np.bincount(row_of[chosen], minlength=end - first)

        ids, labels = tokens.input_ids, tokens.labels
        odd = count((ids < 0) | ((labels != ids) & (labels != IGNORE_INDEX)))
        _refuse(tokens, odd != 0, f"labels that are neither their ids nor {IGNORE_INDEX}", odd, odd * 0)
        if self._audio_id is not None:
            counts, expected = count(ids == self._audio_id), self._placeholders.count(slice(first, end))
            _refuse(tokens, counts != expected, "audio tokens", counts, expected)


def _refuse(
    tokens: RowTokens, wrong: npt.NDArray[np.bool_], what: str, actual: npt.NDArray[np.integer],
    expected: npt.NDArray[np.integer],
) -> None:  # fmt: skip
    if wrong.any():
        row = int(wrong.argmax())
        raise ShortfallError(
            f"{tokens.row_ids[row]}: {what}: found {actual[row]}, expected {expected[row]}. {AGAIN}"
        )
