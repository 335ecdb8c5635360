"""The small columns of row groups of parquet: tokens and codes. Audio is never read here."""

from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from speechrows.codec import CODECS
from speechrows.errors import ShortfallError
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.read.records import RowTokens
from speechrows.rows.tasks import TASKS
from speechrows.storage.parquet_file import has_checksums
from speechrows.types import Int16
from speechrows.types import Int32

AGAIN = "Build or download the folder again"
# Of an index, the number of a shard, row groups of it
ReadRowGroups = Callable[[IndexedRows, int, Sequence[int]], RowTokens]
_NO_CODES = None, np.empty(0, np.int16), np.empty(0, np.int32), np.empty(0, np.int32)
_VERIFIED_ROWS = 64  # at once
_COLUMNS = ("row_id", "input_ids", "labels", "num_tokens")
_OF_CODES = ("codec", "codec_targets")


def read_row_groups(index: IndexedRows, shard: int, row_groups: Sequence[int]) -> RowTokens:
    """Read the tokens and codes of row groups of a shard, as they are stored.

    Raises:
        ShortfallError: a row group can not be read, or contradicts itself.
    """
    has_codes = TASKS[index.shards[shard].task].codec_targets is not None
    table = read_columns(index, shard, row_groups, (*_COLUMNS, *_OF_CODES) if has_codes else _COLUMNS)
    sizes, num_labels = _lengths(table["input_ids"]), _lengths(table["labels"])
    if not np.array_equal(sizes, num_labels):
        row = int((sizes != num_labels).argmax())
        raise ShortfallError(
            f"{table['row_id'][row]}: found {num_labels[row]} labels, expected {sizes[row]}, one for "
            f"each of its input_ids. {AGAIN}"
        )
    num_tokens = table["num_tokens"].to_numpy()
    begins = np.cumsum(sizes) - sizes
    is_token = np.arange(sizes.sum(), dtype=np.int32) < np.repeat(begins + num_tokens, sizes)
    codec, codes, num_frames, code_rows = _codes(table, index.shards[shard].path) if has_codes else _NO_CODES
    return RowTokens(
        row_ids=tuple(map(str, table["row_id"].to_pylist())),
        num_tokens=num_tokens,
        input_ids=_values(table["input_ids"])[is_token],
        labels=_values(table["labels"])[is_token],
        codec=codec,
        codes=codes,
        num_frames=num_frames,
        code_rows=code_rows,
    )


def in_words(row_groups: Sequence[int]) -> str:
    """The numbers of row groups, for messages."""
    return f"row group{'s' * (len(row_groups) > 1)} {', '.join(map(str, row_groups))}"


def verified(read: ReadRowGroups) -> ReadRowGroups:
    """The same reading, of row groups whose pages' checksums were verified before, those of clips too."""
    return partial(_read_verified, read)  # not a function of its own: those can not be pickled


def _read_verified(
    read: ReadRowGroups, index: IndexedRows, shard: int, row_groups: Sequence[int]
) -> RowTokens:
    for row_group in row_groups:
        _verify(index, shard, row_group)
    return read(index, shard, row_groups)


def _verify(index: IndexedRows, shard: int, row_group: int) -> None:
    """Raises ShortfallError: a page is not as it was written, or carries no checksum."""
    path = index.shards[shard].path
    place = f"{index.folder_of(shard).address}: {path}: row group {row_group}"
    try:
        with index.open_shard(shard, verify_checksums=True) as parquet:
            with index.folder_of(shard).open_file(path) as file:
                if not has_checksums(file, parquet.metadata):
                    raise ShortfallError(
                        f"{place}: verify_checksums: found pages without checksums; expected those of a "
                        "build of today. Build the folder again, or load it without verify_checksums"
                    )
            for _ in parquet.iter_batches(_VERIFIED_ROWS, row_groups=[row_group], use_threads=False):
                pass
    except (OSError, pa.ArrowException) as error:
        raise ShortfallError(
            f"{place}: its bytes are not those that were written ({error}). {AGAIN}"
        ) from error


def read_columns(
    index: IndexedRows, shard: int, row_groups: Sequence[int], columns: tuple[str, ...]
) -> pa.Table:
    """Read some columns of row groups of a shard.

    Raises:
        ShortfallError: one can not be read.
    """
    try:
        with index.open_shard(shard) as parquet:
            return parquet.read_row_groups(list(row_groups), list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        place = f"{index.folder_of(shard).address}: {index.shards[shard].path}: {in_words(row_groups)}"
        raise ShortfallError(f"{place} can not be read ({error}). {AGAIN}") from error


def _values(column: Any) -> npt.NDArray[Any]:
    return pc.list_flatten(column).to_numpy()


def _lengths(column: Any) -> Int32:
    return pc.list_value_length(column).fill_null(0).to_numpy()


def _codes(table: pa.Table, path: str) -> tuple[str | None, Int16, Int32, Int32]:
    """The codec of a row group, and of the rows with codes: codes, numbers of frames, places in the group."""
    rows = np.flatnonzero(pc.is_valid(table["codec"]).to_numpy()).astype(np.int32)
    names: list[Any] = pc.drop_null(pc.unique(table["codec"])).to_pylist()
    if not names:
        return _NO_CODES
    if len(names) > 1 or names[0] not in CODECS:
        raise ShortfallError(f"{path}: found codes of {names}; expected one codec of {', '.join(CODECS)}")
    num_codebooks = CODECS[names[0]].num_codebooks
    codebooks = pc.list_flatten(table["codec_targets"])
    lengths = _lengths(codebooks)
    num_frames = lengths[::num_codebooks]
    whole = (_lengths(table["codec_targets"])[rows] == num_codebooks).all()
    if not whole or not np.array_equal(lengths, np.repeat(num_frames, num_codebooks)):
        raise ShortfallError(f"{path}: found codes of another shape than {names[0]}'s. {AGAIN}")
    return names[0], _values(codebooks), num_frames, rows
