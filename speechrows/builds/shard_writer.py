"""Shard files: parquet written group by group, then measured so that any clip can be found.

Audio columns are uncompressed and PLAIN, so a clip's bytes lie in the file as they are, behind
four bytes of length. Their offsets are found after closing by searching for exactly these bytes,
from the last clip on: no parquet internals are needed.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechrows.builds.pipeline import Destination
from speechrows.errors import SpeechRowsError
from speechrows.folder.index_file import INDEX_COLUMNS
from speechrows.folder.index_file import WITHOUT_SOUND
from speechrows.rows import schema

MIN_GROUP_BYTES = 32 << 20  # of audio; the last group of a file may have less
MAX_GROUP_BYTES = 64 << 20  # a conversation is never divided, however large
_AUDIO_BYTES = tuple(f"{column}.bytes" for column in schema.AUDIO_COLUMNS)
_LONGEST_PAGE_HEADER = 1 << 16  # bytes, with the levels; some dozens as a rule
_HEAD = 24  # bytes of a clip that are looked for; a WAV header's sizes are among them


def _leaves(name: str, kind: pa.DataType) -> Iterator[str]:
    """Parquet's names of the columns below a field."""
    if pa.types.is_struct(kind):
        for child in kind:
            yield from _leaves(f"{name}.{child.name}", child.type)
    elif pa.types.is_list(kind):
        yield from _leaves(f"{name}.list.element", kind.value_type)
    else:
        yield name


_LEAVES = [leaf for f in schema.ARROW_SCHEMA for leaf in _leaves(f.name, f.type)]
_OTHERS = [leaf for leaf in _LEAVES if leaf not in _AUDIO_BYTES]
_OPTIONS: dict[str, Any] = {
    "compression": {leaf: "zstd" if leaf in _OTHERS else "none" for leaf in _LEAVES},
    "use_dictionary": _OTHERS,
    "write_statistics": _OTHERS,
    "write_page_index": True,
    "write_page_checksum": True,  # a byte that rots inside a clip decodes to another sound
    "max_rows_per_page": 256,
    "write_batch_size": 8,  # pages end between batches: about 1 MiB of clips, which fits a cache
}


@dataclass
class ShardFile:
    """One parquet file of a shard, under a temporary name until it is published."""

    destination: Destination
    temporary: Path
    writer: pq.ParquetWriter
    num_rows: int = 0
    num_bytes: int = 0
    num_groups: int = 0
    pending: list[pa.Table] = field(default_factory=list[pa.Table])
    pending_bytes: int = 0
    index: list[pa.Table] = field(default_factory=list[pa.Table])
    heads: list[list[bytes | None]] = field(default_factory=list[list[bytes | None]])  # by row group


class ShardWriter:
    """The files of one shard, written under temporary names in `folder`."""

    def __init__(self, folder: Path, tag: str) -> None:
        self._folder = folder
        self._tag = tag
        self._files: dict[Destination, ShardFile] = {}

    def write(self, destination: Destination, table: pa.Table) -> None:
        """Add a table: a row group of its own if it is large, else part of the next one."""
        file = self._files.get(destination) or self._open(destination)
        num_bytes = int(_row_bytes(table).sum())
        if not file.pending and num_bytes >= MIN_GROUP_BYTES:
            self._write_group(file, table)
            return
        if file.pending_bytes + num_bytes > MAX_GROUP_BYTES:
            cut = _cut(table, MIN_GROUP_BYTES - file.pending_bytes)
            if cut < len(table):
                self.write(destination, table[:cut])
                self.write(destination, table[cut:])
                return
        # A copy: the table may lie in a buffer that is filled again.
        file.pending.append(table.take(np.arange(len(table))))
        file.pending_bytes += num_bytes
        if file.pending_bytes >= MIN_GROUP_BYTES:
            self._flush(file)

    def close(self) -> list[ShardFile]:
        """Write what is pending and close every file."""
        for file in self._files.values():
            self._flush(file)
            file.writer.close()
        return sorted(self._files.values(), key=lambda file: file.destination)

    def _open(self, destination: Destination) -> ShardFile:
        name = f"{destination.split}-{destination.band or 0}-{self._tag}.parquet"
        temporary = self._folder / name
        writer = pq.ParquetWriter(temporary, schema.ARROW_SCHEMA, **_OPTIONS)
        self._files[destination] = ShardFile(destination, temporary, writer)
        return self._files[destination]

    def _flush(self, file: ShardFile) -> None:
        if file.pending:
            table = pa.concat_tables(file.pending)
            file.pending, file.pending_bytes = [], 0
            self._write_group(file, table)

    def _write_group(self, file: ShardFile, table: pa.Table) -> None:
        file.writer.write_table(table, row_group_size=len(table))
        file.index.append(_index(table, file.num_groups))
        clips: pa.ChunkedArray[Any] = pc.struct_field(table["audio"], "bytes")
        file.heads.append([head for chunk in clips.chunks for head in _heads(chunk)])
        file.num_rows += len(table)
        file.num_bytes += table.nbytes
        file.num_groups += 1


def _row_bytes(table: pa.Table) -> npt.NDArray[np.int64]:
    """Bytes of audio by row."""
    total = np.zeros(len(table), np.int64)
    for column in schema.AUDIO_COLUMNS:
        lengths: pa.ChunkedArray[Any] = pc.binary_length(pc.struct_field(table[column], "bytes"))
        total += lengths.fill_null(pa.scalar(0, pa.int32())).to_numpy()
    return total


def _cut(table: pa.Table, num_bytes: int) -> int:
    """The number of first rows, of whole conversations, that together have so much audio."""
    ids = table["conversation_id"].to_pylist()
    row = int(np.searchsorted(np.cumsum(_row_bytes(table)), num_bytes)) + 1
    while row < len(ids) and ids[row] == ids[row - 1]:
        row += 1
    return min(row, len(ids))


def _heads(values: "pa.Array[Any]") -> list[bytes | None]:
    """Length and first bytes of each clip, as the file has them; None for a row without sound."""
    offsets = values.buffers()[1]
    assert offsets is not None
    ends = memoryview(offsets).cast("i")[values.offset : values.offset + len(values) + 1]
    data = memoryview(values.buffers()[2] or b"")
    return [
        struct.pack("<I", stop - start) + bytes(data[start : min(stop, start + _HEAD)])
        if stop > start
        else None
        for start, stop in pairwise(ends.tolist())
    ]


def _index(table: pa.Table, group: int) -> pa.Table:
    """The index lines of a row group, without the shard and the clips' offsets in it.

    A row without sound has 0 samples, at 1 Hz: so it lasts 0 seconds for whoever divides.
    """
    lines = table.select(INDEX_COLUMNS).replace_schema_metadata(None)
    for name, value in WITHOUT_SOUND.items():
        column = lines.schema.field(name)
        filled = pc.coalesce(lines[name], pa.scalar(value, column.type))
        lines = lines.set_column(lines.schema.get_field_index(name), column, filled)
    lines = lines.append_column("padded_tokens", pc.list_value_length(table["input_ids"]))
    lines = lines.append_column("row_group", pa.array([group] * len(table), pa.int32()))
    lengths = pc.binary_length(pc.struct_field(table["audio"], "bytes"))
    lengths = pc.cast(lengths, pa.int64()).fill_null(pa.scalar(0))
    return lines.append_column("audio_length", lengths)


def finished_index(file: ShardFile, path: str) -> pa.Table:
    """The index lines of a closed file that will be published at `path`."""
    table = pa.concat_tables(file.index)
    offsets = pa.array(_offsets(file), pa.int64())
    shard = pa.array([path] * len(table)).dictionary_encode()
    return table.append_column("audio_offset", offsets).append_column("shard", shard)


def _offsets(file: ShardFile) -> list[int]:
    """The offset of each clip's bytes in a closed file."""
    offsets: list[int] = []
    metadata = pq.read_metadata(file.temporary)
    with file.temporary.open("rb", buffering=0) as opened:  # a mapped file would count as memory
        for group, heads in enumerate(file.heads):
            start = metadata.row_group(group).column(_LEAVES.index("audio.bytes")).data_page_offset
            for head in heads:
                if head is None:
                    offsets.append(0)
                    continue
                offset = _find(opened.fileno(), head, start)
                if offset is None:
                    raise SpeechRowsError(
                        f"{file.temporary}: a clip's bytes are not where parquet's PLAIN encoding "
                        "puts them; expected a pyarrow that writes them as they are"
                    )
                offsets.append(offset + 4)
                start = offset + 4 + struct.unpack_from("<I", head)[0]
    return offsets


def _find(fd: int, head: bytes, start: int) -> int | None:
    """The first offset of `head` from `start` on: only a page's header stands between two clips."""
    if os.pread(fd, len(head), start) == head:
        return start
    data = os.pread(fd, _LONGEST_PAGE_HEADER, start)
    position = data.find(head)
    return None if position < 0 else start + position
