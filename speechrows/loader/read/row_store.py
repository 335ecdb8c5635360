"""Rows' tokens and codes in a temporary file of this process, where any row is one read.

A plan asks for rows in random order, and parquet gives row groups. So the first time that rows are needed,
all rows of their row groups are written to a temporary file (disk_blocks.py). In memory a row takes 12 bytes:
place and size of its record in that file.
"""

import threading
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speechrows.errors import ShortfallError
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.folder.placeholders import Placeholders
from speechrows.loader.plan.order import expanded
from speechrows.loader.read.disk_blocks import DiskBlocks
from speechrows.loader.read.records import RowTokens
from speechrows.loader.read.records import from_records
from speechrows.loader.read.records import to_records
from speechrows.loader.read.rowgroup import AGAIN
from speechrows.loader.read.rowgroup import ReadRowGroups
from speechrows.loader.read.rowgroup import in_words
from speechrows.loader.read.rowgroup import read_row_groups
from speechrows.types import IGNORE_INDEX
from speechrows.types import Int32

Int64 = npt.NDArray[np.int64]

_LOCKS = 64
_ROWS_AT_ONCE = 1024  # of row groups that are read together; a larger one is read alone


class RowStore:
    """The tokens and codes of an index' rows, read from parquet when first needed; for several threads.

    The file takes about 4 bytes a token and 100 a row, in `TMPDIR`. If `audio_id`, the id of the audio token,
    is given, each row is checked to have as many placeholders as its clip takes.
    """

    def __init__(
        self,
        index: IndexedRows,
        *,
        read_row_groups: ReadRowGroups = read_row_groups,
        audio_id: int | None = None,
    ) -> None:
        self._index = index
        self._read_row_groups = read_row_groups
        self._audio_id = audio_id
        self._placeholders = Placeholders.of(index)
        self._groups = np.append(index.group_starts, len(index))
        self._records = DiskBlocks()
        self._begins = np.zeros(len(index), np.int64)
        self._sizes = np.zeros(len(index), np.int32)  # blocks; 0 where a row was not read yet
        self._filling = [threading.Lock() for _ in range(_LOCKS)]  # a row group's is its number, modulo

    def read(self, rows: Int32) -> RowTokens:
        """The tokens and codes of these rows, in this order.

        Raises:
            ShortfallError: a shard, or a row in it, is not what the index says.
        """
        sizes = self._sizes.take(rows)
        if not sizes.all():
            self._fill_groups(np.unique(np.searchsorted(self._groups, rows[sizes == 0], "right") - 1))
            sizes = self._sizes.take(rows)
        return from_records(self._records.take(self._begins.take(rows), sizes), sizes)

    def _fill_groups(self, groups: Int64) -> None:
        """Read row groups, last those that other threads are reading: so each reads others."""
        for together in self._of_one_shard(groups):
            free = [group for group in together if self._lock_of(group).acquire(blocking=False)]
            try:
                self._fill(free)
            finally:
                for group in free:
                    self._lock_of(group).release()
        for group in groups.tolist():
            with self._lock_of(group):
                self._fill([group])

    def _lock_of(self, group: int) -> threading.Lock:
        return self._filling[group % _LOCKS]

    def _of_one_shard(self, groups: Int64) -> Iterator[list[int]]:
        """Groups that are read at once: of one shard, and few enough for little memory."""
        begins, ends = self._groups[groups], self._groups[groups + 1]
        shards = self._index.shard[begins]
        together, num_rows = list[int](), 0
        for i, (group, rows) in enumerate(zip(groups.tolist(), (ends - begins).tolist(), strict=True)):
            if together and (shards[i] != shards[i - 1] or num_rows + rows > _ROWS_AT_ONCE):
                yield together
                together, num_rows = [], 0
            together.append(group)
            num_rows += rows
        yield together

    def _fill(self, groups: Sequence[int]) -> None:
        """Read the rows of row groups of a shard, but for those that another thread did meanwhile."""
        index = self._index
        groups = [group for group in groups if not self._sizes[self._groups[group]]]
        if not groups:
            return
        begins, ends = (self._groups[[group + after for group in groups]] for after in (0, 1))
        rows, shard = expanded(begins, ends - begins), int(index.shard[begins[0]])
        index.check_shard(shard)
        tokens = self._read_row_groups(index, shard, index.row_group[begins].tolist())
        self._check(tokens, rows)
        values, sizes = to_records(tokens)
        self._begins[rows] = self._records.append(values) + np.cumsum(sizes) - sizes
        self._sizes[rows] = sizes  # last: a size tells other threads that the row is there

    def _check(self, tokens: RowTokens, rows: Int64) -> None:
        """Check that tokens are those of rows of the index, in number, with labels that records can hold."""
        index, path = self._index, self._index.shards[self._index.shard[rows[0]]].path
        num_rows, num_ids = len(tokens.row_ids), len(tokens.input_ids)
        if (num_rows, num_ids) != (len(rows), tokens.num_tokens.sum()):
            groups = in_words(np.unique(index.row_group[rows]).tolist())
            raise ShortfallError(
                f"{path}: found {num_rows} rows and {num_ids} ids in {groups}, "
                f"expected {len(rows)} and {tokens.num_tokens.sum()}. {AGAIN}"
            )
        expected = index.num_tokens[rows]
        _refuse(tokens, tokens.num_tokens != expected, "num_tokens", tokens.num_tokens, expected)
        row_of = np.repeat(np.arange(len(rows)), tokens.num_tokens)

        def count(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
            return np.bincount(row_of[chosen], minlength=len(rows))

        ids, labels = tokens.input_ids, tokens.labels
        odd = count((ids < 0) | ((labels != ids) & (labels != IGNORE_INDEX)))
        _refuse(tokens, odd != 0, f"labels that are neither their ids nor {IGNORE_INDEX}", odd, odd * 0)
        if self._audio_id is not None:
            counts, expected = count(ids == self._audio_id), self._placeholders.count(rows)
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
