"""A corpus that lies in parquet: its files opened, its rows in batches, its cells as they are.

Nothing here knows what a column means. Files are read a buffer at a time, by one thread: memory
stays flat whatever a row group weighs, and no read-ahead thread outlives its reader.
"""

import io
import json
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.storage.parquet_file import parquet_of
from speechrows.types import UnreadableFile

_BATCH_BYTES = 8 << 20  # of a file's rows, at once
_LOCAL_BUFFER, _REMOTE_BUFFER = 1 << 20, 32 << 20  # of each column; behind it lies a disk, or a round trip
_CONNECTIONS = 16  # to a remote store, where only small columns are read

Column = Any  # pa.Array or pa.ChunkedArray: their stubs know neither a list's offsets nor a struct's fields


class Cell(NamedTuple):
    """A clip in a table: its bytes, a view of Arrow's memory, where it has any, and its path."""

    data: memoryview | None
    path: str | None


@contextmanager
def opened(corpus: Corpus, path: str) -> Generator[pq.ParquetFile]:
    """A parquet file of a corpus, while it is read. What goes wrong inside is raised as one of these.

    Raises:
        BrokenFileError: it is no parquet, or can not be read.
        StoreError: a remote store did not answer.
    """
    try:
        place = corpus.local_path(corpus.resolve("", path))
        size = _REMOTE_BUFFER if place is None else _LOCAL_BUFFER
        file: Any = corpus.open_file(path) if place is None else pa.OSFile(place, "rb")
        with file, parquet_of(file, buffer_size=size) as table:
            yield table
    except (pa.ArrowException, OSError, BadClipError) as error:
        raise _broken(corpus, path, error) from error


class BrokenFileError(Exception):
    """A file, or a part of it, that can not be read. It is counted, and the next one is read."""


def _broken(corpus: Corpus, path: str, error: Exception) -> BrokenFileError:
    """What a file is called of which this is raised; raises StoreError where the file is not to blame.

    pyarrow's own errors are plain OSErrors without a number; a store's are of classes of their own.
    """
    if isinstance(error, BadClipError):  # the name of a file that is not in the corpus
        return BrokenFileError(error.detail)
    is_files = not isinstance(error, OSError) or isinstance(error, FileNotFoundError)
    is_arrows = type(error) is OSError and error.errno is None
    if corpus.local_path(path) is None and not (is_files or is_arrows):
        raise StoreError(
            f"{path}: the store did not answer ({error}). Run the same command again: "
            "finished shards are kept"
        ) from error
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    return BrokenFileError(
        f"found {type(error).__name__}: {said!s:.200}; expected parquet. Download it again"
    )


def read_batches(
    corpus: Corpus, path: str, choose: Callable[[pa.Schema], Sequence[str]]
) -> Iterator[tuple[int, pa.RecordBatch] | UnreadableFile]:
    """The rows of a file by the number of the first, of the columns that `choose` finds in its schema.

    What breaks off loses the rest of its row group, not the next: all of it is one UnreadableFile.
    """
    lost = list[str]()
    try:
        with opened(corpus, path) as table:
            columns, start = list(choose(table.schema_arrow)), 0
            for group in range(table.num_row_groups):
                about = table.metadata.row_group(group)
                at, end = start, start + about.num_rows
                rows = _BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)
                try:
                    for batch in table.iter_batches(
                        max(1, min(4096, rows)), row_groups=[group], columns=columns, use_threads=False
                    ):
                        yield at, batch
                        at += len(batch)
                except (pa.ArrowException, OSError) as error:
                    lost.append(f"rows {at} to {end - 1}: {_broken(corpus, path, error)}")
                start = end
    except BrokenFileError as error:
        lost.append(str(error))
    if lost:
        yield UnreadableFile(file=path, detail="; ".join(lost)[:500])


def read_table(corpus: Corpus, path: str, needed: Sequence[str], like: str) -> pa.Table:
    """All of a small file that has the columns `needed`, as `like` has them.

    Raises:
        UsageError: it is no parquet, or lacks one of them.
        OSError: it can not be read.
    """
    try:
        table = pq.read_table(io.BytesIO(corpus.read(path)))
    except ValueError as error:
        raise UsageError(f"{path}: found {error}; expected parquet. Download it again") from error
    missing = [column for column in needed if column not in table.column_names]
    if missing:
        raise UsageError(
            f"{path}: has the columns {', '.join(table.column_names)}; expected {', '.join(missing)} too, as "
            f"in {like}"
        )
    return table


class Look(NamedTuple):
    """A file's schema and small columns; what could not be read is null, and has no schema."""

    schema: pa.Schema | None
    columns: Mapping[str, Column]


def look(
    corpus: Corpus, paths: Sequence[str], choose: Callable[[str, pa.Schema], Sequence[str]]
) -> dict[str, Look]:
    """The small columns of many files, by path, without a byte of what lies beside them."""
    is_remote = any(corpus.local_path(path) is None for path in paths)
    with ThreadPoolExecutor(_CONNECTIONS if is_remote else 1) as pool:
        found = pool.map(lambda path: _look(corpus, path, choose), paths)
        return dict(zip(paths, found, strict=True))


def _look(corpus: Corpus, path: str, choose: Callable[[str, pa.Schema], Sequence[str]]) -> Look:
    try:
        with opened(corpus, path) as table:
            schema, groups = table.schema_arrow, list[pa.Table]()
            names = list(choose(path, schema))
            for group in range(table.num_row_groups if names else 0):
                try:
                    groups.append(table.read_row_group(group, columns=names, use_threads=False))
                except (pa.ArrowException, OSError) as error:
                    _broken(corpus, path, error)
                    num_rows = table.metadata.row_group(group).num_rows
                    groups.append(pa.table({n: pa.nulls(num_rows, schema.field(n).type) for n in names}))
    except BrokenFileError:
        return Look(None, {})
    read = pa.concat_tables(groups) if groups else None
    return Look(schema, {name: read.column(name) for name in names} if read else {})


def repeats(columns: Sequence[Column]) -> list[list[int]]:
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


def _bytes(column: Column) -> Column:
    """Numbers, or text that may be no UTF-8, as bytes."""
    is_text = is_a(column.type, "string", "large_string")
    return (column if is_text else column.cast(pa.string())).cast(pa.large_binary())


def is_a(kind: pa.DataType, *names: str) -> bool:
    """Whether an Arrow type is one of these, by the names of pa.types."""
    return any(getattr(pa.types, f"is_{name}")(kind) for name in names)


def numbers(column: Column) -> list[float | None]:
    """The numbers of a column; none where it holds words."""
    return column.to_pylist() if is_a(column.type, "floating", "integer") else []


def values(column: Column, errors: str = "backslashreplace") -> list[Any]:
    """Cells as objects. Bytes that are no UTF-8 are spelled, or, by "surrogateescape", lone surrogates."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(cell, errors) for cell in column]


def _value(cell: Any, errors: str) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:  # of what is nested nothing is told but that it is bad
        is_flat = is_a(cell.type, "string", "large_string")
        return (cell.as_buffer().to_pybytes() if is_flat else b"\xff").decode(errors=errors)


def cells(column: Column) -> list[Cell]:
    """Clips without a copy, of a column of bytes or of the struct that datasets writes."""
    paths: list[str | None] = [None] * len(column)
    if is_a(column.type, "struct"):
        parts = dict(zip((part.name for part in column.type), column.flatten(), strict=True))
        column = parts["bytes"]
        paths = values(parts["path"]) if "path" in parts else paths
    if is_a(column.type, "null"):
        return [Cell(None, path) for path in paths]
    if is_a(column.type, "binary_view"):
        column = column.cast(pa.large_binary())
    _, places, content = column.buffers()  # a scalar's own buffer would be a copy
    width = np.int64 if is_a(column.type, "large_binary") else np.int32
    at = np.frombuffer(places, width, len(column) + 1, column.offset * np.dtype(width).itemsize).tolist()
    data = memoryview(content or b"")
    return [
        Cell(data[start:stop] if is_there else None, path)
        for start, stop, is_there, path in zip(at, at[1:], column.is_valid().to_pylist(), paths, strict=False)
    ]


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of a file's ClassLabels, by column, as datasets writes them into its metadata."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    classes = {name: one for name, one in features if isinstance(one, dict)}  # datasets 3 has lists too
    return {
        name: one["names"]
        for name, one in classes.items()
        if one.get("_type") == "ClassLabel" and isinstance(one.get("names"), list)
    }


def class_name(value: Any, names: Sequence[str]) -> Any:
    """The name of a class' number; -1 is how datasets writes none. What is no such number stays."""
    if not isinstance(value, int) or value >= len(names):
        return value
    return names[value] if value >= 0 else None
