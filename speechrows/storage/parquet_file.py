"""Parquet files: opened on disk or in a remote store, identified by their footers."""

import hashlib
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from speechrows.storage.filesystem import is_local

# Bytes read ahead of a remote file: the small columns of a row group lie side by side, but for the audio
# between them.
AHEAD = 128 << 10
_TAIL = 8  # bytes of a parquet file: its footer's length, and PAR1


def footer_digest(file: BinaryIO) -> str:
    """The SHA-256 of a parquet file's footer; an index identifies its shards by it. "" where it has none."""
    size = file.seek(0, os.SEEK_END)
    if size < _TAIL:
        return ""
    file.seek(-_TAIL, os.SEEK_END)
    (length,) = struct.unpack("<I", file.read(4))
    if size < length + _TAIL:
        return ""
    file.seek(-_TAIL - length, os.SEEK_END)
    return hashlib.sha256(file.read(length)).hexdigest()


def parquet_of(file: Any, *, buffer_size: int = 0, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """The parquet in an open file, to be read with `use_threads=False`; `metadata` saves reading the footer.

    No thread of pyarrow may read it: one that frees a Python file while the process ends aborts it.
    """
    return pq.ParquetFile(file, metadata=metadata, pre_buffer=False, buffer_size=buffer_size)


@contextmanager
def open_parquet(
    fs: Any, place: str, *, metadata: pq.FileMetaData | None = None, **open_kwargs: Any
) -> Generator[pq.ParquetFile]:
    """Open a parquet file; of a remote one, `open_kwargs` go to the remote file system."""
    file = pa.OSFile(place, "rb") if is_local(fs) else fs.open(place, "rb", **open_kwargs)
    with file, parquet_of(file, metadata=metadata) as table:
        yield table
