"""USDM's own training files, as its train_sft.py reads them: a row a line, `ids|labels`.

Numbers are separated by spaces, lines by line breaks, and none ends the file. Lines stand in the
order of the rows. USDM writes the same lines in another order at each run: it shuffles without a seed.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechrows.errors import UsageError
from speechrows.folder.rows_folder import RowsFolder
from speechrows.interop.options import NoOptions

TASK = "usdm"
_ROWS_AT_ONCE = 256


def export(folder: str, out: Path, _: NoOptions) -> list[str]:
    """Write a folder's usdm rows, as `export_usdm` does; a line for each file."""
    return [f"{out / name}: {num_lines:,} lines" for name, num_lines in export_usdm(folder, out).items()]


def export_usdm(folder: str, out: Path) -> dict[str, int]:
    """Write `<split>.txt` for each split of a folder's usdm rows; return the lines of each file.

    Raises:
        UsageError: the folder has no usdm rows, or a file of that name is there already (the
            corpus' phone lists bear the same names).
    """
    rows = RowsFolder.open(folder)
    splits = [split for task, split in rows.splits() if task == TASK]
    if not splits:
        tasks = ", ".join(sorted({task for task, _ in rows.splits()}))
        raise UsageError(
            f"{folder}: has rows of {tasks}; expected {TASK}. Build them: "
            "speechrows build dailytalk_usdm usdm --data-dir DailyTalk --with units --out DIR"
        )
    existing = [str(out / f"{split}.txt") for split in splits if (out / f"{split}.txt").exists()]
    if existing:
        raise UsageError(
            f"{', '.join(existing)}: there already; expected a folder for new files. Give another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    return {f"{split}.txt": _write(rows, split, out / f"{split}.txt") for split in splits}


def _write(rows: RowsFolder, split: str, path: Path) -> int:
    """Write the lines of a split, under a temporary name until all are written; return their number."""
    unfinished, num_lines = path.with_name(f".{path.name}.{os.getpid()}"), 0
    try:
        with unfinished.open("x", encoding="ascii", newline="\n") as file:
            for line in _lines(rows, split):
                file.write(("\n" if num_lines else "") + line)
                num_lines += 1
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return num_lines


def _lines(rows: RowsFolder, split: str) -> Iterator[str]:
    for shard in rows.index_facts(TASK, split).shards:
        with rows.open_parquet(shard.path) as parquet:
            for batch in parquet.iter_batches(
                _ROWS_AT_ONCE, columns=["input_ids", "labels"], use_threads=False
            ):
                columns: Any = [column.to_pylist() for column in batch.columns]
                for row in zip(*columns, strict=True):
                    yield "|".join(" ".join(map(str, numbers)) for numbers in row)
