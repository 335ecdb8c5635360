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
    before = {path.name for path in out.glob("*.txt")}
    num_lines = export_usdm(folder, out)
    lines = [f"{out / name}: {number:,} lines" for name, number in num_lines.items()]
    return [f"{out}: there already, as this command writes it", *lines] if {*num_lines} <= before else lines


def export_usdm(folder: str, out: Path) -> dict[str, int]:
    """Write `<split>.txt` for each split of a folder's usdm rows; return the lines of each file.

    Files that are there already, line for line, are left as they are.

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
    paths = {split: out / f"{split}.txt" for split in splits}
    existing = [split for split, path in paths.items() if path.exists()]
    num_lines = {split: _num_written(rows, split, paths[split]) for split in existing}
    others = [str(paths[split]) for split, number in num_lines.items() if number is None]
    if others:
        raise UsageError(
            f"{', '.join(others)}: there already, of something else; expected a folder for new files. Give "
            "another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    return {path.name: num_lines.get(split) or _write(rows, split, path) for split, path in paths.items()}


def _num_written(rows: RowsFolder, split: str, path: Path) -> int | None:
    """The lines of a file of a split's; None where it is not as it would be written."""
    num_lines = 0
    with path.open("rb") as file:
        for line in _lines(rows, split):
            expected = (("\n" if num_lines else "") + line).encode("ascii")
            if file.read(len(expected)) != expected:
                return None
            num_lines += 1
        return None if file.read(1) else num_lines


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
