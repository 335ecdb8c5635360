"""Build in one line, and read back what was built."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speechrows.build.plan import SHARD_BYTES
from speechrows.build.run import build
from speechrows.builder import load_builder


def build_rows(
    data_dir: Path | str,
    out: Path,
    config: str = "ttt",
    *,
    num_proc: int = 1,
    max_skipped: float = 1.0,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    **options: Any,
) -> dict[str, Any]:
    """Build deepdialogue_ttt into `out` and return the ledger's summary."""
    builder = load_builder("deepdialogue_ttt")(config_name=config, data_dir=str(data_dir), **options)
    builder.shard_bytes = shard_bytes
    return build(builder.job(), out, num_proc=num_proc, max_skipped=max_skipped, overwrite=overwrite)


def read_rows(out: Path, task: str = "ttt") -> list[dict[str, Any]]:
    """Every row of a task, in file order."""
    files = sorted((out / "data" / task).rglob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]).to_pylist() if files else []


def read_skipped(out: Path) -> list[dict[str, Any]]:
    """The lines of skipped.jsonl."""
    return [json.loads(line) for line in (out / "skipped.jsonl").read_text("utf-8").splitlines()]


def published_files(out: Path) -> dict[str, bytes]:
    """The bytes of everything that would be published, by path."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".build" not in path.relative_to(out).parts
    }
