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

_NEXT_INT = b"\x15"  # of Thrift's compact protocol


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


def has_checksums(file: BinaryIO, metadata: pq.FileMetaData) -> bool:
    """Whether the pages of a parquet file carry checksums, by the first one. pyarrow does not say."""
    if not metadata.num_row_groups:
        return False
    column = metadata.row_group(0).column(0)
    file.seek(column.dictionary_page_offset or column.data_page_offset)
    header, at = file.read(64), 0
    # Thrift's compact protocol: a byte for a field of 32 bits right after the one before, then the number.
    # A page's kind and its two sizes come first; then the checksum, or what is of its kind.
    for _ in range(3):
        if header[at : at + 1] != _NEXT_INT:
            return False
        at += 1
        while at < len(header) and header[at] & 0x80:
            at += 1
        at += 1
    return header[at : at + 1] == _NEXT_INT


def is_checksum_error(error: OSError) -> bool:
    """Whether it is pyarrow's for a page that is not as it was written."""
    return "CRC checksum" in str(error)


def parquet_of(
    file: Any,
    *,
    buffer_size: int = 0,
    metadata: pq.FileMetaData | None = None,
    verify_checksums: bool = False,
) -> pq.ParquetFile:
    """The parquet in an open file, to be read with `use_threads=False`; `metadata` saves reading the footer.

    With `verify_checksums`, a page that is not as it was written is an OSError, where pages carry them.
    No thread of pyarrow may read it: one that frees a Python file while the process ends aborts it.
    """
    return pq.ParquetFile(
        file,
        metadata=metadata,
        pre_buffer=False,
        buffer_size=buffer_size,
        page_checksum_verification=verify_checksums,
    )


@contextmanager
def open_parquet(
    fs: Any,
    place: str,
    *,
    metadata: pq.FileMetaData | None = None,
    verify_checksums: bool = False,
    **open_kwargs: Any,
) -> Generator[pq.ParquetFile]:
    """Open a parquet file; of a remote one, `open_kwargs` go to the remote file system."""
    file = pa.OSFile(place, "rb") if is_local(fs) else fs.open(place, "rb", **open_kwargs)
    with file, parquet_of(file, metadata=metadata, verify_checksums=verify_checksums) as table:
        yield table
