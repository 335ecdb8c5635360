"""Tables of a corpus that lies in parquet: files opened, rows in batches, cells as they are.

Nothing here knows what a column means. Files are read a buffer at a time, and some batches ahead, by a thread
that ends with its reader: memory stays flat whatever a row group weighs.
"""

import io
import json
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextlib import contextmanager
from typing import Any
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechrows.corpora.ahead import ahead
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.storage.parquet_file import parquet_of
from speechrows.types import UnreadableFile

_BATCH_BYTES = 4 << 20  # of a file's rows, at once
_MOST_ROWS = 4096  # at once, however small
_AHEAD = 4  # batches that are read before they are asked for
_LOCAL_BUFFER, _REMOTE_BUFFER = 1 << 20, 32 << 20  # of each column; behind it lies a disk, or a round trip
_CONNECTIONS = 16  # to a remote store, where only small columns are read

Batch = tuple[int, pa.RecordBatch]  # with the number of its first row
Array = Any  # pa.Array or pa.ChunkedArray: their stubs know neither a list's offsets nor a struct's fields


@contextmanager
def open_table(corpus: Corpus, path: str) -> Generator[pq.ParquetFile]:
    """Open a parquet file of a corpus. What goes wrong while it is read is raised as one of these.

    Raises:
        BrokenFileError: it is no parquet, or can not be read.
        StoreError: a remote store did not answer.
    """
    try:
        local_path = corpus.local_path(corpus.resolve("", path))
        size = _REMOTE_BUFFER if local_path is None else _LOCAL_BUFFER
        file: Any = corpus.open_file(path) if local_path is None else pa.OSFile(local_path, "rb")
        with file, parquet_of(file, buffer_size=size) as table:
            yield table
    except (pa.ArrowException, OSError, BadClipError) as error:
        raise broken(corpus, path, error) from error


class BrokenFileError(Exception):
    """A file, or some of it, that can not be read. It is counted, and the next one is read."""


def broken(corpus: Corpus, path: str, error: Exception, expected: str = "parquet") -> BrokenFileError:
    """The BrokenFileError for an error of a file; raises StoreError where the file is not to blame.

    pyarrow's own errors are plain OSErrors without a number; a store's are of classes of their own.
    """
    if isinstance(error, BadClipError):  # the name of a file that is not in the corpus
        return BrokenFileError(error.detail)
    is_of_file = not isinstance(error, OSError) or isinstance(error, FileNotFoundError)
    is_of_arrow = type(error) is OSError and error.errno is None
    if corpus.local_path(path) is None and not (is_of_file or is_of_arrow):
        raise StoreError(
            f"{path}: the store did not answer ({error}). Run the same command again: "
            "finished shards are kept"
        ) from error
    words = error.strerror if isinstance(error, OSError) and error.strerror else error
    return BrokenFileError(
        f"found {type(error).__name__}: {words!s:.200}; expected {expected}. Download it again"
    )


def read_batches(
    corpus: Corpus,
    path: str,
    choose: Callable[[pa.Schema], Sequence[str]],
    is_wanted: Callable[[int, int], bool] = lambda start, stop: start < stop,
) -> Generator[Batch | UnreadableFile]:
    """Read a file in batches, each with the number of its first row; `choose` names columns of its schema.

    Row groups are passed over where `is_wanted` says so of their rows. Where reading fails, the rest of the
    row group is lost, not the next: one UnreadableFile says so.
    """
    lost = list[str]()
    with closing(_batches(corpus, path, choose, is_wanted, lost)) as batches:
        yield from ahead(batches, _AHEAD)
    if lost:
        yield UnreadableFile(file=path, detail="; ".join(lost)[:500])


def _batches(
    corpus: Corpus,
    path: str,
    choose: Callable[[pa.Schema], Sequence[str]],
    is_wanted: Callable[[int, int], bool],
    lost: list[str],
) -> Generator[Batch]:
    """The batches of a file, each with the number of its first row; what could not be read goes to `lost`."""
    try:
        with open_table(corpus, path) as table:
            columns, start = list(choose(table.schema_arrow)), 0
            for group in range(table.num_row_groups):
                metadata = table.metadata.row_group(group)
                at, end = start, start + metadata.num_rows
                start = end
                if not is_wanted(at, end):
                    continue
                try:
                    for batch in table.iter_batches(
                        _batch_rows(metadata, columns), row_groups=[group], columns=columns, use_threads=False
                    ):
                        yield at, batch
                        at += len(batch)
                except (pa.ArrowException, OSError) as error:
                    lost.append(f"rows {at} to {end - 1}: {broken(corpus, path, error)}")
    except BrokenFileError as error:
        lost.append(str(error))


def _batch_rows(group: pq.RowGroupMetaData, names: Sequence[str]) -> int:
    """How many rows of a row group are read at once, by what some of its columns weigh."""
    columns = map(group.column, range(group.num_columns))
    wanted = [column for column in columns if column.path_in_schema.partition(".")[0] in names]
    num_bytes = sum(column.total_uncompressed_size for column in wanted)
    return max(1, min(_MOST_ROWS, _BATCH_BYTES * group.num_rows // max(1, num_bytes)))


def read_table(corpus: Corpus, path: str, needed: Sequence[str], like: str) -> pa.Table:
    """Read all of a small file, which has to have the columns `needed`, as `like` has them.

    Raises:
        UsageError: it is no parquet, or lacks one of them.
        OSError: it can not be read.
    """
    try:
        table = pq.read_table(io.BytesIO(corpus.read(path)))
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):
            raise  # the disk's, or a store's
        words = " ".join(str(error).split())
        raise UsageError(f"{path}: found {words:.200}; expected parquet. Download it again") from error
    missing = [column for column in needed if column not in table.column_names]
    if missing:
        raise UsageError(
            f"{path}: has the columns {', '.join(table.column_names)}; expected {', '.join(missing)} too, as "
            f"in {like}"
        )
    return table


class SmallColumns(NamedTuple):
    """A file's schema and small columns. What can not be read is null: of a whole file, even its schema."""

    schema: pa.Schema | None
    columns: Mapping[str, Array]


def read_small_columns(
    corpus: Corpus, paths: Sequence[str], choose: Callable[[str, pa.Schema], Sequence[str]]
) -> dict[str, SmallColumns]:
    """Read the columns that `choose` names of many files, by path, and no byte of the others."""
    is_remote = any(corpus.local_path(path) is None for path in paths)
    with ThreadPoolExecutor(_CONNECTIONS if is_remote else 1) as pool:
        tables = pool.map(lambda path: _read_small_columns(corpus, path, choose), paths)
        return dict(zip(paths, tables, strict=True))


def _read_small_columns(
    corpus: Corpus, path: str, choose: Callable[[str, pa.Schema], Sequence[str]]
) -> SmallColumns:
    try:
        with open_table(corpus, path) as table:
            schema, groups = table.schema_arrow, list[pa.Table]()
            names = list(choose(path, schema))
            for group in range(table.num_row_groups if names else 0):
                try:
                    groups.append(table.read_row_group(group, columns=names, use_threads=False))
                except (pa.ArrowException, OSError) as error:
                    broken(corpus, path, error)
                    num_rows = table.metadata.row_group(group).num_rows
                    groups.append(pa.table({n: pa.nulls(num_rows, schema.field(n).type) for n in names}))
    except BrokenFileError:
        return SmallColumns(None, {})
    columns = pa.concat_tables(groups) if groups else None
    return SmallColumns(schema, {name: columns.column(name) for name in names} if columns else {})


def repeats(columns: Sequence[Array]) -> list[list[int]]:
    """The rows of each column whose value an earlier row, of any of them, has; null and empty repeat none."""
    chunks = [_bytes(chunk) for column in columns for chunk in column.chunks]
    coded: Any = pa.concat_arrays([*chunks, pa.array([], pa.large_binary())]).dictionary_encode()
    codes: npt.NDArray[np.int64] = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    lengths: npt.NDArray[np.int64] = pc.binary_length(coded.dictionary).to_numpy(zero_copy_only=False)
    is_repeat = np.ones(len(codes), np.bool_)
    is_repeat[np.unique(codes, return_index=True)[1]] = False
    is_repeat[np.isin(codes, [-1, *np.flatnonzero(lengths == 0)])] = False
    ends = np.cumsum([len(column) for column in columns])
    return [np.flatnonzero(rows).tolist() for rows in np.split(is_repeat, ends)[: len(columns)]]


def _bytes(column: Array) -> Array:
    """Numbers, or text that may be no UTF-8, as bytes."""
    is_text = is_a(column.type, "string", "large_string")
    return (column if is_text else column.cast(pa.string())).cast(pa.large_binary())


def is_a(kind: pa.DataType, *names: str) -> bool:
    """Whether an Arrow type is one of these, by the names of pa.types."""
    return any(getattr(pa.types, f"is_{name}")(kind) for name in names)


def is_list_of_lists(kind: Any, *names: str) -> bool:
    """Whether an Arrow type is lists of lists of one of these; where all are empty, it is of "null"."""
    for _ in range(2):
        if not is_a(kind, "list", "large_list", "fixed_size_list"):
            return False
        kind = kind.value_type
    return is_a(kind, *names)


def numbers(column: Array) -> list[float | None]:
    """The numbers of a column; none where it holds words."""
    return column.to_pylist() if is_a(column.type, "floating", "integer") else []


def values(column: Array, errors: str = "backslashreplace") -> list[Any]:
    """Cells as objects. Bytes that are no UTF-8 are spelled, or with "surrogateescape" lone surrogates."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(cell, errors) for cell in column]


def records(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table; bytes that are no UTF-8 become lone surrogates, which cost their own row."""
    columns = [values(column, "surrogateescape") for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _value(cell: Any, errors: str) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:  # a nested cell does not give its bytes: it is one bad byte
        is_flat = is_a(cell.type, "string", "large_string")
        return (cell.as_buffer().to_pybytes() if is_flat else b"\xff").decode(errors=errors)


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of a file's ClassLabels, by column, as datasets writes them into its metadata."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {
        name: feature["names"]
        for name, feature in features
        if isinstance(feature, dict)  # datasets 3 has lists too
        and feature.get("_type") == "ClassLabel"
        and isinstance(feature.get("names"), list)
    }


def class_name(value: Any, names: Sequence[str]) -> Any:
    """The name of a class' number; -1 is how datasets writes none. What is no such number stays."""
    if not isinstance(value, int) or value >= len(names):
        return value
    return names[value] if value >= 0 else None
