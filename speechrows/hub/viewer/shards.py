"""The viewer's rules of a parquet file, and of the files of a split together."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio
from datasets import Features

from speechrows.hub.viewer import response
from speechrows.hub.viewer.findings import ViewerReport
from speechrows.hub.viewer.listing import Part
from speechrows.hub.viewer.pages import scanned
from speechrows.hub.viewer.repository import Repository
from speechrows.storage.parquet_file import parquet_of

MAX_COLUMNS, MAX_NAME = 1_000, 500
MAX_SCAN = 300_000_000  # bytes that are fetched in a row group for a page of rows
PAGE_ROWS = 100
PLAYED = (".wav", ".mp3", ".opus", ".flac")  # by browsers, as they are


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """What a file's footer tells."""

    schema: pa.Schema
    features: Features


def look(path: str, there: Repository, report: ViewerReport) -> Shard | None:
    """Check a file by itself; None where it is no parquet."""
    try:
        with there.open_file(path) as file, parquet_of(file) as parquet:
            schema = parquet.schema_arrow
            shard = Shard(schema=schema, features=Features.from_arrow_schema(schema))
            _check_groups(path, file, parquet.metadata, report)
            _check_paths(path, parquet, report)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        report.fail(
            "parquet", path, f"it can not be read ({error})", "Write parquet: the rest is shown in part"
        )
        return None
    return shard


def _check_groups(path: str, file: Any, metadata: pq.FileMetaData, report: ViewerReport) -> None:
    indexed = True
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(i) for i in range(group.num_columns)]
        has_index = all(chunk.has_offset_index for chunk in chunks)
        indexed = indexed and has_index
        num_bytes = sum(chunk.total_compressed_size for chunk in chunks)
        if num_bytes > MAX_SCAN and has_index:
            num_bytes = scanned(file, number, group.num_rows, PAGE_ROWS)
        if num_bytes > MAX_SCAN:
            change = "Write a page index, smaller pages and smaller row groups, or smaller rows"
            found = f"{num_bytes:,} bytes are read for {PAGE_ROWS} rows of row group {number}"
            report.fail("scan", path, f"{found}, at most {MAX_SCAN:,} can be", change)
    if not indexed:
        report.fail("page index", path, "it has none", "Write it with write_page_index=True")


def _check_paths(path: str, parquet: pq.ParquetFile, report: ViewerReport) -> None:
    """The names of the first row group's clips: their extension tells how they are played."""
    columns = [
        field.name for field in parquet.schema_arrow
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        and field.type.get_field_index("path") >= 0
    ]  # fmt: skip
    if not columns or not parquet.num_row_groups:
        return
    table = parquet.read_row_group(0, [f"{name}.path" for name in columns], use_threads=False)
    for name in columns:
        clips: list[Any] = table[name].to_pylist()
        for clip in clips:
            told = clip and clip["path"]
            if clip is not None and os.path.splitext(told or "")[1] not in PLAYED:
                found = f"{name}.path is {told!r}"
                report.fail(
                    "path", path, found, f"Name every clip with its true extension: {' '.join(PLAYED)}"
                )
                break


def check_split(part: Part, shards: dict[str, Shard], there: Repository, report: ViewerReport) -> None:
    """Check the files of a split together: one schema, audio that is shown, an answer that fits."""
    mine = [(path, shards[path]) for path in part.files if path in shards]
    if not mine:
        return
    first_path, first = mine[0]
    for path, shard in mine[1:]:
        if not shard.schema.equals(first.schema) or shard.features != first.features:
            differ = _difference(first.schema, shard.schema)
            found = f"its schema is not that of {first_path} ({differ})"
            report.fail("schema", path, found, "Write all files of a split with one schema")
    features = part.features or first.features
    _check_features(str(part), features, first.schema, report)
    _check_response(str(part), first_path, features, there, report)


def _difference(one: pa.Schema, other: pa.Schema) -> str:
    names = [
        name for name in dict.fromkeys([*one.names, *other.names]) if _type(one, name) != _type(other, name)
    ]
    return ", ".join(names) or "order, or features"


def _type(schema: pa.Schema, name: str) -> pa.DataType | None:
    return schema.field(name).type if name in schema.names else None


def _check_features(where: str, features: Features, schema: pa.Schema, report: ViewerReport) -> None:
    if len(schema) > MAX_COLUMNS:
        report.fail("columns", where, f"found {len(schema):,} columns", f"Have at most {MAX_COLUMNS:,}")
    long = [name for name in schema.names if len(name) > MAX_NAME]
    if long:
        found = f"the name of column {long[0]:.40}… has {len(long[0])} characters"
        report.fail("columns", where, found, f"Have at most {MAX_NAME}")
    audio = [name for name, kind in features.items() if isinstance(kind, Audio)]
    nested = [name for name, kind in features.items() if name not in audio and _holds_audio(kind)]
    change = "Declare clips as columns of type Audio, in dataset_info and in the files: others have no player"
    if nested:
        report.fail("audio", where, f"column {nested[0]} holds audio inside lists or dicts", change)
    if not audio:
        report.fail("audio", where, "no column is Audio", change)


def _holds_audio(kind: Any) -> bool:
    if isinstance(kind, Audio):
        return True
    if isinstance(kind, dict):
        return any(_holds_audio(value) for value in kind.values())
    inner = kind[0] if isinstance(kind, list) else getattr(kind, "feature", None)
    return inner is not None and _holds_audio(inner)


def _check_response(
    where: str, path: str, features: Features, there: Repository, report: ViewerReport
) -> None:
    rows = _first_rows(path, features, there)
    whole, cut = response.first_rows_bytes(features, rows)
    if cut > response.MAX_BYTES:
        found = f"its first {len(rows)} rows are {cut:,} bytes of JSON, even with cells cut"
        report.fail("response", where, found, f"At most {response.MAX_BYTES:,} fit: have fewer columns")
    elif whole > response.MAX_BYTES:
        found = f"the first {len(rows)} rows are {whole:,} bytes of JSON, of which {response.MAX_BYTES:,} fit"
        report.note(f"{where}: {found}: long cells are shown cut")


def _first_rows(path: str, features: Features, there: Repository) -> Sequence[dict[str, Any]]:
    """The first rows without the bytes of audio, which are not part of the answer."""
    with there.open_file(path) as file, parquet_of(file) as parquet:
        names = [name for name in parquet.schema_arrow.names if name in features]
        columns = [f"{name}.path" if isinstance(features[name], Audio) else name for name in names]
        batches = parquet.iter_batches(response.MIN_ROWS, columns=columns, use_threads=False)
        return next((batch.to_pylist() for batch in batches), [])
