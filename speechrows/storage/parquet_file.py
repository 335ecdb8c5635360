"""Parquet files: opened on disk or in a remote store, told apart by their footers."""

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

# Bytes that are read of a remote file beyond what was asked for: the small columns of a row group lie side
# by side, but for the audio between them.
AHEAD = 128 << 10


def footer_digest(file: BinaryIO) -> str:
    """The SHA-256 of a parquet file's footer: what a shard is bound to its index by."""
    file.seek(-8, os.SEEK_END)
    (length,) = struct.unpack("<I", file.read(4))
    file.seek(-8 - length, os.SEEK_END)
    return hashlib.sha256(file.read(length)).hexdigest()


def parquet_of(file: Any, *, buffer_size: int = 0, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """The parquet in an open file, to be read with `use_threads=False`; its `metadata` where it is known.

    None of pyarrow's threads reads it: one that lets go of a Python file as the process ends aborts it.
    """
    return pq.ParquetFile(file, metadata=metadata, pre_buffer=False, buffer_size=buffer_size)


@contextmanager
def open_parquet(
    fs: Any, place: str, *, metadata: pq.FileMetaData | None = None, **how: Any
) -> Generator[pq.ParquetFile]:
    """A parquet file, while it is read; of a remote one, `how` is what its store is told."""
    file = pa.OSFile(place, "rb") if is_local(fs) else fs.open(place, "rb", **how)
    with file, parquet_of(file, metadata=metadata) as table:
        yield table
