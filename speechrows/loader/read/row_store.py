"""What rows say, held in a file of this process, where any row is one read.

A plan asks for rows in random order, and parquet gives row groups. So the first time that a row of a
row group is needed, all its rows' texts go into a temporary file that has no name. In memory a row
takes 12 bytes: where it lies in that file.
"""

import os
import tempfile
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from speechrows.errors import ShortfallError
from speechrows.folder.index import Index
from speechrows.folder.placeholders import Placeholders
from speechrows.loader.read.records import Texts
from speechrows.loader.read.records import to_records
from speechrows.loader.read.records import to_texts
from speechrows.loader.read.rowgroup import AGAIN
from speechrows.loader.read.rowgroup import read_row_group
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX
from speechrows.types import Int32

ReadRowGroup = Callable[[Index, int, int], Texts]  # index, number of the shard, row group
_LOCKS = 64


class RowTexts:
    """The texts of an index' rows, read at first need; by several threads at once.

    The file takes about 4 bytes a token and 100 a row; `TMPDIR` says where. `audio_id` is the id of
    `<audio>`: where it is given, every row is seen to have as many as its clip is long.
    """

    def __init__(
        self, index: Index, *, read_row_group: ReadRowGroup = read_row_group, audio_id: int | None = None
    ) -> None:
        self._index = index
        self._read_row_group = read_row_group
        self._audio_id = audio_id
        self._placeholders = Placeholders.of(index)
        self._groups = np.append(index.group_starts, len(index))
        self._offsets = np.zeros(len(index), np.int64)
        self._sizes = np.zeros(len(index), np.int32)  # bytes; 0 where a row was not read yet
        self._filling = [threading.Lock() for _ in range(_LOCKS)]  # a row group's is its number, modulo
        self._appending = threading.Lock()
        self._end = 0
        self._file = tempfile.TemporaryFile(prefix="speechrows-", buffering=0)  # noqa: SIM115

    def close(self) -> None:
        """Give the temporary file back."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    def read(self, rows: Int32) -> Texts:
        """What these rows say, in this order.

        Raises:
            ShortfallError: a shard, or a row in it, is not what the index says.
        """
        missing = rows[self._sizes[rows] == 0]
        for group in np.unique(np.searchsorted(self._groups, missing, "right") - 1).tolist():
            with self._filling[group % _LOCKS]:
                self._fill(*self._groups[group : group + 2].tolist())
        sizes, file = self._sizes[rows], self._file.fileno()
        places = zip(sizes.tolist(), self._offsets[rows].tolist(), strict=True)
        return to_texts(b"".join([os.pread(file, size, offset) for size, offset in places]), sizes)

    def _fill(self, first: int, end: int) -> None:
        """Read the rows `first` to `end`, which are a row group, unless another thread did meanwhile."""
        if self._sizes[first]:
            return
        shard = int(self._index.shard[first])
        self._index.check_shard(shard)
        texts = self._read_row_group(self._index, shard, int(self._index.row_group[first]))
        self._check(texts, first, end)
        records, sizes = to_records(texts)
        self._offsets[first:end] = self._append(records) + np.cumsum(sizes) - sizes
        self._sizes[first:end] = sizes  # last: it says that the row is there

    def _append(self, data: bytes) -> int:
        with self._appending:
            begin, self._end = self._end, self._end + len(data)
        try:
            written = os.pwrite(self._file.fileno(), data, begin)
        except OSError:
            written = 0
        if written < len(data):
            raise ShortfallError(
                f"{tempfile.gettempdir()}: found no room for what rows say, after {begin} bytes; expected "
                "about 4 a token and 100 a row. Set TMPDIR to a larger place"
            )
        return begin

    def _check(self, texts: Texts, first: int, end: int) -> None:
        """See that a row group has the rows and lengths of the index, and labels that records can hold."""
        index, path = self._index, self._index.shards[self._index.shard[first]].path
        found = len(texts.row_ids), len(texts.input_ids)
        if found != (end - first, texts.num_tokens.sum()):
            raise ShortfallError(
                f"{path}: found {found[0]} rows and {found[1]} ids in row group {index.row_group[first]}, "
                f"expected {end - first} and {texts.num_tokens.sum()}. {AGAIN}"
            )
        expected = index.num_tokens[first:end]
        _refuse(texts, texts.num_tokens != expected, "num_tokens", texts.num_tokens, expected)
        row_of = np.repeat(np.arange(end - first), texts.num_tokens)

        def count(tokens: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
            return np.bincount(row_of[tokens], minlength=end - first)

        ids, labels = texts.input_ids, texts.labels
        odd = count((ids < 0) | ((labels != ids) & (labels != IGNORE_INDEX)))
        _refuse(texts, odd != 0, f"labels that are neither their ids nor {IGNORE_INDEX}", odd, odd * 0)
        if self._audio_id is not None:
            found, expected = count(ids == self._audio_id), self._placeholders.count(slice(first, end))
            _refuse(texts, found != expected, AUDIO_TOKEN, found, expected)


def _refuse(
    texts: Texts, wrong: npt.NDArray[np.bool_], what: str, found: npt.NDArray[np.integer],
    expected: npt.NDArray[np.integer],
) -> None:  # fmt: skip
    if wrong.any():
        row = int(wrong.argmax())
        raise ShortfallError(
            f"{texts.row_ids[row]}: {what}: found {found[row]}, expected {expected[row]}. {AGAIN}"
        )
