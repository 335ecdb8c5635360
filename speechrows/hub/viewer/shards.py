"""The viewer's rules for a parquet file, and for the files of a split together."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio
from datasets import Features

from speechrows.hub.viewer import response
from speechrows.hub.viewer.findings import ViewerReport
from speechrows.hub.viewer.listing import ListedSplit
from speechrows.hub.viewer.pages import scanned
from speechrows.hub.viewer.repository import Repository
from speechrows.storage.parquet_file import parquet_of

MAX_COLUMNS, MAX_NAME = 1_000, 500
MAX_SCAN = 300_000_000  # bytes that are fetched in a row group for a page of rows
PAGE_ROWS = 100
PLAYED = (".wav", ".mp3", ".opus", ".flac")  # by browsers, as they are


@dataclass(frozen=True, kw_only=True, slots=True)
class Footer:
    """What a parquet file's footer says of its columns."""

    schema: pa.Schema
    features: Features


def check_file(path: str, repository: Repository, report: ViewerReport) -> Footer | None:
    """Check a file by itself; return None where it is no parquet."""
    try:
        with repository.open_file(path) as file, parquet_of(file) as parquet:
            schema = parquet.schema_arrow
            footer = Footer(schema=schema, features=Features.from_arrow_schema(schema))
            _check_groups(path, file, parquet.metadata, report)
            _check_paths(path, parquet, report)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        report.fail(
            "parquet", path, f"it can not be read ({error})", "Write parquet: the rest is shown in part"
        )
        return None
    return footer


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
            problem = f"{num_bytes:,} bytes are read for {PAGE_ROWS} rows of row group {number}"
            report.fail("scan", path, f"{problem}, at most {MAX_SCAN:,} can be", change)
    if not indexed:
        report.fail("page index", path, "it has none", "Write it with write_page_index=True")


def _check_paths(path: str, parquet: pq.ParquetFile, report: ViewerReport) -> None:
    """Check the names of the first row group's clips: a player is chosen by their extension."""
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
            clip_path = clip and clip["path"]
            if clip is not None and os.path.splitext(clip_path or "")[1] not in PLAYED:
                problem = f"{name}.path is {clip_path!r}"
                report.fail(
                    "path", path, problem, f"Name every clip with its true extension: {' '.join(PLAYED)}"
                )
                break


def check_split(
    split: ListedSplit, footers: Mapping[str, Footer], repository: Repository, report: ViewerReport
) -> None:
    """Check the files of a split together: one schema, audio that is shown, a response that fits."""
    paths = [path for path in split.files if path in footers]
    if not paths:
        return
    first = footers[paths[0]]
    for path in paths[1:]:
        footer = footers[path]
        if not footer.schema.equals(first.schema) or footer.features != first.features:
            differ = _difference(first.schema, footer.schema)
            problem = f"its schema is not that of {paths[0]} ({differ})"
            report.fail("schema", path, problem, "Write all files of a split with one schema")
    features = split.features or first.features
    _check_features(str(split), features, first.schema, report)
    _check_response(str(split), paths[0], features, repository, report)


def _difference(first: pa.Schema, other: pa.Schema) -> str:
    """Name the columns in which two schemas differ."""
    all_names = dict.fromkeys([*first.names, *other.names])
    names = [name for name in all_names if _type(first, name) != _type(other, name)]
    return ", ".join(names) or "order, or features"


def _type(schema: pa.Schema, name: str) -> pa.DataType | None:
    return schema.field(name).type if name in schema.names else None


def _check_features(where: str, features: Features, schema: pa.Schema, report: ViewerReport) -> None:
    if len(schema) > MAX_COLUMNS:
        report.fail("columns", where, f"found {len(schema):,} columns", f"Have at most {MAX_COLUMNS:,}")
    long = [name for name in schema.names if len(name) > MAX_NAME]
    if long:
        problem = f"the name of column {long[0]:.40}… has {len(long[0])} characters"
        report.fail("columns", where, problem, f"Have at most {MAX_NAME}")
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
    where: str, path: str, features: Features, repository: Repository, report: ViewerReport
) -> None:
    rows = _first_rows(path, features, repository)
    whole, cut = response.first_rows_bytes(features, rows)
    if cut > response.MAX_BYTES:
        problem = f"its first {len(rows)} rows are {cut:,} bytes of JSON, even with cells cut"
        report.fail("response", where, problem, f"At most {response.MAX_BYTES:,} fit: have fewer columns")
    elif whole > response.MAX_BYTES:
        problem = (
            f"the first {len(rows)} rows are {whole:,} bytes of JSON, of which {response.MAX_BYTES:,} fit"
        )
        report.note(f"{where}: {problem}: long cells are shown cut")


def _first_rows(path: str, features: Features, repository: Repository) -> Sequence[dict[str, Any]]:
    """Read the first rows without the bytes of audio, which are not in the response."""
    with repository.open_file(path) as file, parquet_of(file) as parquet:
        names = [name for name in parquet.schema_arrow.names if name in features]
        columns = [f"{name}.path" if isinstance(features[name], Audio) else name for name in names]
        batches = parquet.iter_batches(response.MIN_ROWS, columns=columns, use_threads=False)
        return next((batch.to_pylist() for batch in batches), [])
