"""Clips in the cells of a table: bytes, the struct of bytes and path, or a decoded clip."""

from typing import Any
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from speechrows.audio import array_wav
from speechrows.corpora.parquet import Array
from speechrows.corpora.parquet import is_a
from speechrows.corpora.parquet import values


class Cell(NamedTuple):
    """A clip in a table: its bytes, a view of Arrow's memory, where it has any, and its path."""

    data: memoryview | None
    path: str | None


def holds_clips(kind: Any) -> bool:
    """Whether an Arrow type can be that of clips: bytes, or a struct of bytes, or of samples and a rate."""
    if is_a(kind, "struct"):
        if _has_arrays(kind):
            return True
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else kind
    return is_a(kind, "binary", "large_binary", "binary_view", "null")


def _has_arrays(kind: Any) -> bool:
    """Whether it is the struct that datasets has of a decoded clip, which `map` writes."""
    places = [kind.get_field_index(name) for name in ("array", "sampling_rate")]
    if min(places) < 0:
        return False
    samples, rate = kind.field("array").type, kind.field("sampling_rate").type
    for _ in range(2):  # of several channels, lists of lists
        samples = samples.value_type if is_a(samples, "list", "large_list") else samples
    return is_a(samples, "floating", "integer", "null") and is_a(rate, "integer", "floating", "null")


def clip_cells(column: Array) -> list[Cell]:
    """Clips of a column of bytes, or of a struct of datasets'. Bytes are no copy; samples become WAV."""
    paths: list[str | None] = [None] * len(column)
    if is_a(column.type, "struct"):
        fields = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
        paths = values(fields["path"]) if "path" in fields else paths
        if _has_arrays(column.type):
            rates = fields["sampling_rate"].to_pylist()
            clips = [_array_wav(samples, rate) for samples, rate in zip(fields["array"], rates, strict=True)]
            given = fields["bytes"].to_pylist() if "bytes" in fields else [None] * len(column)
            known = zip(given, clips, paths, strict=True)
            return [Cell(memoryview(own) if own else clip, path) for own, clip, path in known]
        column = fields["bytes"]
    if is_a(column.type, "null"):
        return [Cell(None, path) for path in paths]
    if is_a(column.type, "binary_view"):
        column = column.cast(pa.large_binary())
    _, offsets, content = column.buffers()  # a scalar's own buffer would be a copy
    width = np.int64 if is_a(column.type, "large_binary") else np.int32
    at = np.frombuffer(offsets, width, len(column) + 1, column.offset * np.dtype(width).itemsize).tolist()
    data = memoryview(content or b"")
    return [
        Cell(data[start:stop] if is_valid else None, path)
        for start, stop, is_valid, path in zip(at, at[1:], column.is_valid().to_pylist(), paths, strict=False)
    ]


def _array_wav(samples: Any, rate: int | float | None) -> memoryview | None:
    """A cell's samples as WAV; None where there are none, or no rate."""
    if not samples.is_valid or not rate:
        return None
    array = np.array(samples.as_py())
    if array.ndim == 2 and array.shape[0] < array.shape[1]:  # channel by channel
        array = array.T
    return memoryview(array_wav(array, int(rate))) if array.ndim in (1, 2) else None
