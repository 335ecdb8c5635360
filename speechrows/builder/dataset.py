"""A data set of `datasets` that is in hand, map-style or streamed, as a folder of rows."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.table import embed_table_storage

from speechrows.builder.builder import SpeechBuilder
from speechrows.builds.run import build
from speechrows.errors import UsageError
from speechrows.rows.ledger import MAX_SKIPPED
from speechrows.rows.ledger import LedgerSummary

_BATCH_ROWS = 64  # whose clips are in memory at once
_FILE_BYTES = 512 << 20  # of clips in a table; the next begins another

Splits = Mapping[str, "datasets.Dataset | datasets.IterableDataset"]


def build_dataset(
    builder: type[SpeechBuilder],
    dataset: "datasets.Dataset | datasets.IterableDataset | Splits",
    config: str,
    out: Path | str,
    *,
    name: str = "dataset",
    num_proc: int = 1,
    max_skipped: float = MAX_SKIPPED,
    overwrite: bool = False,
    **flags: Any,
) -> LedgerSummary:
    """Build a config of a data set's rows into a folder, as `speechrows build` does, and return its counts.

    The data set, or each split of a dict of them, is written to the temporary folder (TMPDIR) first: with its
    clips, a batch at a time, and nothing is decoded. `name` is what rows are called by; `flags` are the
    builder's.

    Raises:
        UsageError: a flag, or a column, is none that rows could be made with.
        ShortfallError: faults above `max_skipped` of the items.
    """
    splits: Splits = dataset if isinstance(dataset, Mapping) else {"train": dataset}
    if not name or "/" in name:
        raise UsageError(f"name: found {name!r}, expected one without slashes")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, name)
        folder.mkdir()
        for split, rows in splits.items():
            _write(rows, folder, str(split))
        jobs = builder(config_name=config, data_dir=str(folder), **flags).jobs()
        *_, summary = [
            build(job, Path(out), num_proc=num_proc, max_skipped=max_skipped, overwrite=overwrite)
            for job in jobs
        ]
        return summary


def _write(dataset: Any, folder: Path, split: str) -> None:
    """Write a data set as tables of parquet, with the clips that it names."""
    writer: pq.ParquetWriter | None = None
    path, number, num_bytes = folder, 0, 0
    for table in _tables(dataset):
        if writer is None:
            path = folder / f"{split}-{number:05d}.parquet"
            writer = pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=False)
        writer.write_table(table)
        num_bytes += table.nbytes
        if num_bytes >= _FILE_BYTES:
            _close(writer, path)
            writer, number, num_bytes = None, number + 1, 0
    if writer is not None:
        _close(writer, path)


def _tables(dataset: Any) -> Iterator[pa.Table]:
    """The rows of a data set a batch at a time, with the bytes of the clips that it names."""
    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Audio):
            dataset = dataset.cast_column(column, datasets.Audio(decode=False))
    metadata = dataset.features.arrow_schema.metadata if dataset.features else None
    for batch in dataset.with_format("arrow").iter(_BATCH_ROWS):
        table = batch.replace_schema_metadata(metadata) if metadata else batch
        yield embed_table_storage(table) if metadata else table


def _close(writer: pq.ParquetWriter, path: Path) -> None:
    """Close a table, and let its time follow from its bytes: what is the same is no other build."""
    writer.close()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    seconds = int.from_bytes(digest[:4])
    os.utime(path, (seconds, seconds))
