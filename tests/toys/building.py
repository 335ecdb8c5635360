"""Build in one line, and read back what was built."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio

from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.builder import load_builder
from speechrows.builds.place import Place
from speechrows.builds.run import build
from speechrows.builds.run import build_some
from speechrows.builds.sharding import SHARD_BYTES
from speechrows.codec import CODECS
from speechrows.codec import num_frames
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Reader
from speechrows.generate.writer import SidecarWriter
from speechrows.rows.curriculum import task_of
from speechrows.rows.ledger import LedgerSummary
from speechrows.rows.schema import ARROW_SCHEMA
from speechrows.storage.parquet_file import footer_digest
from speechrows.types import Dialogue
from speechrows.types import UnreadableFile
from speechrows.workers.local import LocalEngine
from speechrows.workers.work import Engine


def build_rows(
    data_dir: Path | str,
    out: Path | Place,
    config: str = "ttt",
    *,
    num_proc: int = 1,
    engine: Engine | None = None,
    max_skipped: float = 1.0,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    builder: str = "deepdialogue_ttt",
    **options: Any,
) -> LedgerSummary:
    """Build a config into `out` and return the ledger's counts, of a union the last task's."""
    made = load_builder(builder)(config_name=config, data_dir=str(data_dir), **options)
    made.config.shard_bytes = shard_bytes
    *_, summary = [
        build(job, out, num_proc=num_proc, engine=engine, max_skipped=max_skipped, overwrite=overwrite)
        for job in made.jobs()
    ]
    return summary


def build_some_rows(data_dir: Path, out: Path, numbers: range, shard_bytes: int, **options: Any) -> None:
    """Build the shards of some numbers of a config, as other runs may at the same time."""
    made = load_builder("deepdialogue_ttt")(config_name="ttt", data_dir=str(data_dir), **options)
    made.config.shard_bytes = shard_bytes
    for job in made.jobs():
        build_some(job, out, numbers, LocalEngine())


def open_reader(
    builder: type[SpeechBuilder], folder: Path | str, config: str = "ttt", **options: Any
) -> tuple[Reader[Any], Listing[Any]]:
    """A builder's reader of a corpus, and what it lists there."""
    chosen = builder.BUILDER_CONFIG_CLASS(name=config, data_dir=str(folder), **options)
    reader = builder.READER(chosen.inputs.corpus, chosen, task_of(config))
    return reader, reader.units(chosen.inputs.listing)


def read_corpus(
    builder: type[SpeechBuilder], folder: Path | str, config: str = "ttt", **options: Any
) -> list[Dialogue | UnreadableFile]:
    """Everything that a builder's reader reads of a corpus."""
    reader, listing = open_reader(builder, folder, config, **options)
    return [dialogue for unit in listing.units for dialogue in reader.dialogues(unit)]


def made_up(rows: Path, kind: str, folder: Path) -> str:
    """Generated columns with a made-up value for every transcription row of a built folder."""
    codec = {"mimi": "mimi", "units": "xlsr2_1b_v2_10k"}.get(kind)
    with SidecarWriter.open(folder, {"kind": kind, **({"codec": codec} if codec else {})}) as writer:
        for i, row in enumerate(read_rows(rows, "transcription")):
            if codec is None:
                writer.add(row["clip_id"], f"Sounds like clip {i}.", is_cut=bool(i % 2))
                continue
            spec = CODECS[codec]
            shape = (spec.num_codebooks, num_frames(row["num_samples"], row["sampling_rate"], spec))
            codes = np.random.default_rng(i).integers(spec.cardinality, size=shape)
            writer.add(row["clip_id"], codes.astype(np.int16) if kind == "mimi" else codes[0])
    return str(folder)


def read_rows(out: Path, task: str = "ttt") -> list[dict[str, Any]]:
    """Every row of a task, in file order."""
    files = sorted((out / "data" / task).rglob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]).to_pylist() if files else []


def read_skipped(out: Path) -> list[dict[str, Any]]:
    """The lines of skipped.jsonl."""
    return [json.loads(line) for line in (out / "skipped.jsonl").read_text("utf-8").splitlines()]


def replace_shard(folder: Path, shard: str, rows: list[dict[str, Any]], index: str) -> None:
    """Write other rows into a shard, and into its index what that says of the file."""
    pq.write_table(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA), folder / shard)
    lines = pq.read_table(folder / index)
    facts = json.loads(lines.schema.metadata[b"speechrows"])
    with (folder / shard).open("rb") as file:
        facts["shards"][shard] |= {"size": file.seek(0, 2), "footer_sha256": footer_digest(file)}
    lines = lines.set_column(0, "row_id", pa.array(row["row_id"] for row in rows))
    pq.write_table(lines.replace_schema_metadata({"speechrows": json.dumps(facts)}), folder / index)


def published_files(out: Path) -> dict[str, bytes]:
    """The bytes of everything that would be published, by path."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".build" not in path.relative_to(out).parts
    }


def plain(rows: Any) -> list[dict[str, Any]]:
    """Rows of a dataset with audio as stored, whatever the version of datasets."""
    for column in ("audio", "target_audio"):
        rows = rows.cast_column(column, Audio(decode=False))
    return [dict(row) for row in rows]
