"""Scores of rows, which `speechrows screen` writes: a parquet a task and split, a line a row.

It lies beside the index (layout.screen_path) with its lines in the same order, and is bound to the same
shards: scores of other rows are refused. Its recipe says how they were made. A row group is a shard's.
"""

import json
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speechrows.errors import ShortfallError
from speechrows.folder.index import Index
from speechrows.folder.layout import index_path
from speechrows.folder.layout import screen_path
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.rows_folder import RowsFolder

# Null where nothing was measured: all of sound in a row of text alone, what is heard without --asr.
SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("badness", pa.float32()),  # 0 to 1: how bad the worst of what follows is
        ("worst", pa.string()),  # its name; "" where nothing is bad
        ("silence", pa.float32()),  # share of the clip without speech
        ("clipping", pa.float32()),  # share of samples that are cut off
        ("snr_db", pa.float32()),
        ("level_db", pa.float32()),  # of the speech, below full scale
        ("speaking_rate", pa.float32()),  # letters a second of speech
        ("chars_per_second", pa.float32()),  # the same letters a second of the clip
        ("script", pa.string()),  # of most letters, as Unicode names it; "" without letters
        ("other_script", pa.float32()),  # share of letters that are not of the language's scripts
        ("wer", pa.float32()),  # of the transcript against what a recogniser heard
        ("heard", pa.string()),
    ]
)
UNDECODABLE = "audio"  # the name of what is worst of a clip that does not decode
IN_WORDS = {
    "silence": "{:.0%} of the clip is no speech",
    "clipping": "{:.2%} of the samples are cut off",
    "snr_db": "{:.0f} dB of speech over noise",
    "level_db": "speech at {:.0f} dB",
    "speaking_rate": "{:.1f} letters a second of speech",
    "chars_per_second": "{:.1f} letters a second of the clip",
    "other_script": "{:.0%} of the letters are of another script",
    "wer": "{:.0%} of the words were heard otherwise",
    UNDECODABLE: "its clip does not decode",
}
_KEY = b"speechrows_screen"  # of the parquet metadata


def to_metadata(shards: Sequence[ShardEntry], recipe: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The parquet metadata of scores: whose they are, by row group, and how they were made."""
    entries = [[shard.path, shard.rows, shard.size, shard.footer_sha256] for shard in shards]
    return {_KEY: json.dumps({"recipe": recipe, "shards": entries}, sort_keys=True).encode()}


def from_metadata(schema: pa.Schema) -> tuple[list[ShardEntry], dict[str, Any]]:
    """What `to_metadata` wrote: shards and recipe.

    Raises:
        ValueError: it did not.
    """
    try:
        facts = json.loads((schema.metadata or {})[_KEY])
        shards = [
            ShardEntry(path=path, rows=int(rows), size=int(size), footer_sha256=digest)
            for path, rows, size, digest in facts["shards"]
        ]
        recipe = dict(facts["recipe"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"no metadata of `speechrows screen` ({error!r:.80})") from error
    if not schema.equals(SCHEMA):
        raise ValueError(f"the columns {', '.join(schema.names)}, not {', '.join(SCHEMA.names)}")
    return shards, recipe


def is_screened(folder: RowsFolder, task: str, split: str) -> bool:
    """Whether there are scores of a task and split.

    Raises:
        ShortfallError: they are damaged, or those of other rows.
    """
    return scores(folder, task, split, []) is not None


def scores(
    folder: RowsFolder, task: str, split: str, columns: Sequence[str] = tuple(SCHEMA.names)
) -> pa.Table | None:
    """The scores of a task and split, in the order of its index; None where it was not screened.

    Raises:
        ShortfallError: they are damaged, or those of other rows.
    """
    path = screen_path(task, split)
    if not folder.has(path):
        return None
    with folder.naming(path), folder.open_parquet(path) as parquet:
        shards, _ = from_metadata(parquet.schema_arrow)
        if shards != [*folder.index_facts(task, split).shards] or not _is_whole(parquet, shards):
            raise ShortfallError(
                f"{folder.address}: {path}: found scores of other rows than {index_path(task, split)} lists. "
                "Run `speechrows screen` again, or delete the file"
            )
        return parquet.read([*columns], use_threads=False)


def scores_of(
    folder: RowsFolder, index: Index, columns: Sequence[str] = tuple(SCHEMA.names)
) -> pa.Table | None:
    """The scores of an index' rows [R], in their order: null of tasks that were not screened; None of none.

    Raises:
        ShortfallError: they are damaged, or those of other rows.
    """
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    parts = list[pa.Table]()
    is_any = False
    for task, facts in index.facts.items():
        table = scores(folder, task, index.split, columns)
        is_any |= table is not None
        starts = dict(zip(facts.shards, accumulate(shard.rows for shard in facts.shards), strict=True))
        for shard in (shard for shard in index.shards if shard.task == task):
            if table is None:
                parts.append(pa.table([pa.nulls(shard.rows, field.type) for field in schema], schema=schema))
            else:
                parts.append(table.slice(starts[shard] - shard.rows, shard.rows).cast(schema))
    return pa.concat_tables(parts) if is_any else None


def describe(row: Mapping[str, Any], measure: str | None = None) -> str:
    """A measure of a row of scores in words, the worst by default."""
    name = measure or row["worst"]
    return IN_WORDS[name].format(row.get(name))


def _is_whole(parquet: pq.ParquetFile, shards: Sequence[ShardEntry]) -> bool:
    return parquet.metadata.num_rows == sum(shard.rows for shard in shards)
