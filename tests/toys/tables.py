"""Tables of audio and text in every format, written by the libraries that people write them with."""

import csv
import io
import json
import tarfile
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Audio
from datasets import Dataset
from datasets import DatasetDict

from toys.audio import wav

FORMATS = ("parquet", "arrow", "csv", "tsv", "jsonl", "tar", "tar.gz")
Row = Mapping[str, Any]


def tone(number: int) -> bytes:
    """A short WAV that no other number has."""
    samples = np.sin(np.arange(1600 + 80 * number) * (0.02 + 0.003 * number)) * 9000
    return wav(samples.astype(np.int16), 16_000)


def calls(count: int = 3, turns: int = 3) -> list[dict[str, Any]]:
    """Rows of conversations, in order; `clip` is the number of a row's tone."""
    return [
        {
            "id": f"u{i}",
            "conversation": f"c{i // turns}",
            "turn": i % turns,
            "start": 2.5 * (i % turns),
            "speaker": "AB"[i % turns % 2],
            "text": f'Row {i}, said "so"; twice.',
            "answer": f"Answer {i}.",
            "emotion": ("happy", "sad", "neutral")[i % 3],
            "clip": i,
        }
        for i in range(count * turns)
    ]


def with_cells(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows with their clips in a column, as datasets has them."""
    return [
        {**{name: value for name, value in row.items() if name != "clip"}, "audio": cell(row["clip"])}
        for row in rows
    ]


def cell(number: int) -> dict[str, Any]:
    """A tone in datasets' struct."""
    return {"bytes": tone(number), "path": f"{number}.wav"}


def dataset_of(rows: Sequence[Row]) -> Dataset:
    """Rows as a Dataset with an Audio column."""
    return Dataset.from_list(with_cells(rows)).cast_column("audio", Audio(decode=False))


def with_names(folder: Path, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows that name their clips, which are written below the folder."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for row in rows:
        (folder / f"clips/{row['clip']}.wav").write_bytes(tone(row["clip"]))
    return [
        {**{name: value for name, value in row.items() if name != "clip"}, "file": f"clips/{row['clip']}.wav"}
        for row in rows
    ]


def write_table(folder: Path, kind: str, rows: Sequence[Row], name: str = "train") -> Path:
    """Write rows as a table of a kind of FORMATS, with their clips; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{kind}"
    if kind == "parquet":
        dataset_of(rows).to_parquet(str(path))
    elif kind == "arrow":
        DatasetDict({name: dataset_of(rows)}).save_to_disk(str(folder))
    elif kind == "jsonl":
        pd.DataFrame(with_names(folder, rows)).to_json(path, orient="records", lines=True)
    elif kind == "csv":
        pd.DataFrame(with_names(folder, rows)).to_csv(path, index=False)
    elif kind == "tsv":
        named = with_names(folder, rows)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(named[0]), delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(named)
    else:
        write_samples(path, [{"wav": tone(row["clip"]), "json": without_clip(row)} for row in rows])
    return folder


def without_clip(row: Row) -> bytes:
    """A row as JSON, but for its clip."""
    return json.dumps({name: value for name, value in row.items() if name != "clip"}).encode()


def write_samples(path: Path, samples: Sequence[Mapping[str, bytes]]) -> None:
    """Write a tar as webdataset does: members of a sample, one after another, by the ends of their names."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for number, sample in enumerate(samples):
            for end, data in sample.items():
                info = tarfile.TarInfo(f"sample/{number:06}.{end}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
