"""The sample of omni_tasks: its files, changed and read."""

import json
import shutil
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from omni_tasks import CONFIGS
from omni_tasks import SOURCES
from omni_tasks import OmniReader
from omni_tasks import OmniTasks
from speechrows.builder import Listing
from speechrows.builder import SourceFile
from speechrows.rows.ledger import LedgerSummary
from speechrows.sidecar.columns import RECIPE
from speechrows.sidecar.columns import schema_of
from speechrows.types import Dialogue
from speechrows.types import UnreadableFile
from toys.building import build_rows
from toys.building import open_reader
from toys.samples import SAMPLES

HUB = SAMPLES / "hub"
MIX = Path(__file__).parents[2] / "mixes" / "omni.yaml"
BY_NAME = {source.name: source for source in SOURCES}
LOQUACIOUS = "speechbrain/LoquaciousSet/medium/train-00000-of-00001.parquet"
HEYSQUAD = "fixie-ai/HeySQuAD_human/data/train-00000-of-00001.parquet"
SIFTED = "mazesmazes/sift-audio-2/data/meld-00000-of-00001.parquet"
ACTED = "mazesmazes/sift-audio-2/data/crema_d-00000-of-00001.parquet"
MIMI = "mazesmazes/libritts-mimi/data/train-00000-of-00001.parquet"
MELD = "garam-icecream/MELD/data/train-00000-of-00001.parquet"
CREMA_D = "AbstractTTS/CREMA-D/data/train-00000-of-00001.parquet"
TESS = "AbstractTTS/TESS/data/train-00000-of-00001.parquet"
COMMON_VOICE = "fixie-ai/common_voice_17_0/en/train-00000-of-00001.parquet"
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SAMPLE = {file: pq.read_table(HUB / file) for file in (LOQUACIOUS, MIMI, ACTED)}


def only(tmp_path: Path, *files: str) -> Path:
    """A hub that holds these files of the sample alone."""
    for file in files:
        (tmp_path / "hub" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HUB / file, tmp_path / "hub" / file)
    return tmp_path / "hub"


def change(path: Path, **columns: Any) -> None:
    """Write a file anew with other cells, or types, in some columns; None drops one."""
    table = pq.read_table(path)
    for name, cells in columns.items():
        if cells is None:
            table = table.drop_columns([name])
        elif name in table.column_names:
            column = cells if isinstance(cells, pa.Array) else pa.array(cells, table.schema.field(name).type)
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, cells)
    pq.write_table(table, path)


def cells(path: Path, column: str) -> list[Any]:
    return pq.read_table(path)[column].to_pylist()


def readers(folder: Path | str, **options: Any) -> Iterator[tuple[OmniReader, Listing[SourceFile]]]:
    """The reader of every task, and what it lists; emotion corpora too, as where they have answers."""
    for task in CONFIGS[1:]:
        yield open_reader(OmniTasks, folder, task, emotion_corpora=True, **options)


def everything(
    listed: Iterable[tuple[OmniReader, Listing[SourceFile]]],
) -> Iterator[Dialogue | UnreadableFile]:
    """What readers read: each file once, by the first that lists it."""
    files: set[str] = set()
    for reader, listing in listed:
        for unit in listing.units:
            if unit.file not in files:
                yield from reader.dialogues(unit)
            files.add(unit.file)


def read(folder: Path | str, **options: Any) -> list[Dialogue]:
    """The utterances of a folder, none of whose files is broken."""
    utterances = list(everything(readers(folder, **options)))
    assert not [item for item in utterances if isinstance(item, UnreadableFile)]
    return [item for item in utterances if isinstance(item, Dialogue)]


def in_words(folder: Path) -> str:
    """What is said of every task's sources."""
    return "\n".join(listing.contents for _, listing in readers(folder))


def build(hub: Path | str, out: Path, config: str, **options: Any) -> LedgerSummary:
    summary = build_rows(hub, out, config, builder="omni_tasks", **options)
    counts = [summary.rows, *summary.skipped.values(), *summary.left_out.values()]
    assert summary.items == sum(counts)
    return summary


def clip_ids(folder: Path) -> list[str]:
    """The clips of a folder by name."""
    return [dialogue.clip_id(dialogue.turns[0]) for dialogue in read(folder)]


def answers(folder: Path, names: Iterable[str], mode: str = "sift_ssp") -> str:
    """Generated answers to clips, as `generate` writes them."""
    lines = [{"clip_id": name, "answer": f"I hear {name}.", "is_cut": False} for name in names]
    recipe = {RECIPE: json.dumps({"kind": mode}).encode()}
    table = pa.Table.from_pylist(lines, schema=schema_of(mode).with_metadata(recipe))
    folder.mkdir()
    pq.write_table(table, folder / "part-00000.parquet")
    return str(folder)
