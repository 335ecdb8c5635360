"""How the folder that version 0.1.0 built was made; it is kept to see that later versions read it.

    cd CHECKOUT_OF_0.1.0 && PYTHONPATH=$PWD python make_folder.py OUT

Beside OUT/folder it writes corpus.json (the corpus; its clips by the rows that hold them), rows.json (a
SHA-256 of each value of each row) and loader_state.json (states saved in the middle of an epoch, and the
rows of every batch before and after).

The speech is real: samples/deepdialogue-xtts, cut to the loudest 0.13 to 0.19 s of each turn, at 8 kHz. One
conversation's texts are repeated until it belongs to band 2, one has no clip for its last turn. Pictures are
stored with compression, for size: the same pixels, other bytes than 0.1.0 wrote.
"""

import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import soundfile
from PIL import Image

VERSION = "0.1.0"
BUILDER = "deepdialogue_ttt"
CORPUS = "deepdialogue-cut"  # its name in the rows
RATE_HZ = 8_000
MTIME_NS = 1_735_689_600 * 10**9  # of every file of the corpus: a build knows its corpus by these too
FLAGS = ("--max-skipped", "0.2")
TASKS = ("ttt", "response")

LLAMA, PHI = "dialogues_llama3-8B_cohere7B", "dialogues_phi4-mini"
DIALOGUES = (  # the sample's, its turns, the name here, how often each text is repeated
    (f"{LLAMA}/health_2_4", range(4), f"{LLAMA}/health_2_4", 1),
    (f"{LLAMA}/social_media_1_6", range(3), f"{LLAMA}/social_media_1_3", 1),
    (f"{LLAMA}/social_media_1_6", range(3, 6), f"{LLAMA}/social_media_2_3", 1),
    (f"{PHI}/travel_2_3", range(3), f"{PHI}/travel_2_3", 1),
    (f"{PHI}/education_1_4", range(2), f"{PHI}/education_1_2", 100),
    (f"{LLAMA}/health_2_4", range(2), f"{PHI}/health_3_2", 1),
)
FAULTY = f"{PHI}/health_3_2"  # its last clip is missing

LOADS: dict[str, dict[str, Any]] = {
    "bucket": {"config": "ttt", "mode": "bucket", "budget_seconds": 0.6, "seed": 3},
    "pack": {"config": "stage_1", "mode": "pack", "context": 384, "batch_size": 1, "seed": 5},
    "lanes": {"config": "stage_1", "mode": "lanes", "context": 128, "batch_size": 2, "seed": 7},
    "response": {
        "config": "response",
        "mode": "bucket",
        "budget_tokens": 120,
        "too_long": "drop",
        "seed": 11,
    },
}
BEFORE = {"bucket": 2, "pack": 1, "lanes": 2, "response": 2}  # batches before the state is saved
NEXT = 2  # batches of the next epoch
TENSORS = (
    "input_ids", "labels", "attention_mask", "segment_ids", "position_ids", "reset", "cu_seqlens", "lanes",
    "speech_lengths", "num_audio_tokens", "clip_segment", "clip_row", "row_spans",
)  # fmt: skip


# --- what is recorded of a folder; the tests compare with these ------------------------------


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of both tasks as stored in parquet, by row_id."""
    files = sorted(file for task in TASKS for file in (folder / "data" / task).rglob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
    by_id = {row["row_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def digests(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The SHA-256 of each value of each row: of JSON with sorted keys, bytes as hexadecimals."""
    return {row["row_id"]: {name: _digest(value) for name, value in row.items()} for row in rows}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=bytes.hex)
    return hashlib.sha256(text.encode()).hexdigest()


def batch_records(batches: Iterable[Any]) -> list[dict[str, Any]]:
    """The rows of each batch, and a SHA-256 of those of its tensors that hold whole numbers."""
    records: list[dict[str, Any]] = []
    for batch in batches:
        sha256 = hashlib.sha256()
        for name in TENSORS:
            values = getattr(batch, name).numpy().astype("<i8")
            sha256.update(f"{name} {values.shape} ".encode() + values.tobytes())
        records.append({"row_ids": list(batch.row_ids), "sha256": sha256.hexdigest()})
    return records


# --- how it was made ------------------------------------------------------------------------


def write_corpus(samples: Path, corpus: Path) -> None:
    """Write the cut corpus: the same bytes and times whenever it is made."""
    for source, turns, name, repeats in DIALOGUES:
        dialogue = json.loads((samples / "data" / f"{source}.json").read_text("utf-8"))
        clips = sorted((samples / "data" / source / "segments").glob("*.wav"))
        headings, *lines = (samples / "data" / source / "metadata.tsv").read_text("utf-8").splitlines()
        folder = corpus / "data" / name
        (folder / "segments").mkdir(parents=True)
        metadata, conversation = [headings], list[dict[str, str]]()
        for number, turn in enumerate(turns):
            text = dialogue["conversation"][turn]["text"]
            cells = lines[turn].split("\t")
            clip = f"{number + 1:03d}_{clips[turn].name[4:]}"
            metadata.append("\t".join([f"{number + 1:03d}", clip, *cells[2:]]))
            conversation.append({**dialogue["conversation"][turn], "text": " ".join([text] * repeats)})
            if name != FAULTY or number < len(turns) - 1:
                seconds = 0.13 + 0.02 * (turn % 4)
                (folder / "segments" / clip).write_bytes(cut(clips[turn], seconds))
        if repeats == 1:  # a text in metadata.tsv has to be the dialogue's
            (folder / "metadata.tsv").write_text("\n".join(metadata) + "\n", "utf-8")
        folder.with_name(f"{folder.name}.json").write_text(
            json.dumps({"domain": dialogue["domain"], "conversation": conversation}, indent=1) + "\n", "utf-8"
        )
    for file in corpus.rglob("*"):
        if file.is_file():
            os.utime(file, ns=(MTIME_NS, MTIME_NS))


def cut(clip: Path, seconds: float) -> bytes:
    """The loudest part of a clip as a WAV file at 8 kHz."""
    samples, rate = soundfile.read(clip, dtype="int16")
    factor = rate // RATE_HZ
    whole = samples[: len(samples) // factor * factor].astype(np.int64)
    slow = whole.reshape(-1, factor).sum(1) // factor
    length = round(seconds * RATE_HZ)
    energy = np.cumsum(np.concatenate([[0], slow**2]))
    start = int(np.argmax(energy[length:] - energy[:-length]))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, RATE_HZ, length, "NONE", ""))
        file.writeframes(slow[start : start + length].astype("<i2").tobytes())
    return out.getvalue()


def build(corpus: Path, out: Path) -> None:
    """Build both tasks into one folder; the second command finds the first one's rows there."""
    for task in TASKS:
        arguments = [BUILDER, task, "--data-dir", str(corpus), "--out", str(out), *FLAGS]
        subprocess.run([sys.executable, "-m", "speechrows.cli", "build", *arguments], check=True)
    shutil.rmtree(out / ".build" / "tmp", ignore_errors=True)


def compress_pictures(out: Path) -> None:
    """Store the same pixels in fewer bytes."""
    for file in out.glob("assets/*/*.png"):
        picture = Image.open(io.BytesIO(file.read_bytes()))
        pixels = picture.convert("RGB").tobytes()
        picture.save(file, "PNG", bits=4, optimize=True)
        assert Image.open(file).convert("RGB").tobytes() == pixels


def record_corpus(corpus: Path, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The corpus: its texts, and of each clip the row_id that holds its bytes."""
    holders = {row["audio"]["bytes"]: row_id for row_id, row in reversed(rows.items())}
    files = {file.relative_to(corpus).as_posix(): file for file in sorted(corpus.rglob("*"))}
    files = {path: file for path, file in files.items() if file.is_file()}
    return {
        "name": corpus.name,
        "mtime_ns": MTIME_NS,
        "flags": list(FLAGS),
        "texts": {path: file.read_text("utf-8") for path, file in files.items() if file.suffix != ".wav"},
        "clips": {path: holders[file.read_bytes()] for path, file in files.items() if file.suffix == ".wav"},
        "made_with": {
            name: importlib.metadata.version(name)
            for name in ("pyarrow", "datasets", "tokenizers", "transformers")
        },
    }


def record_loads(out: Path) -> dict[str, Any]:
    """Of each way to load: the state in the middle of the epoch, and what all batches were."""
    import speechrows  # noqa: PLC0415  # takes torch along

    loads: dict[str, Any] = {}
    for name, options in LOADS.items():
        loader = speechrows.load(out.name, **options)
        size, batches = len(loader), iter(loader)
        before = batch_records(islice(batches, BEFORE[name]))
        state = json.loads(json.dumps(loader.state_dict()))
        after = batch_records(batches)
        following = batch_records(islice(iter(loader), NEXT))
        assert len(before) + len(after) == size, name
        assert len(after) > 1, name
        loads[name] = {
            "load": options, "batches": size, "before": before, "state": state, "after": after,
            "next": following,
        }  # fmt: skip
    return {"tensors": list(TENSORS), "loads": loads}


def main(target: Path) -> None:
    """Make all of it."""
    import speechrows  # noqa: PLC0415

    checkout = Path(speechrows.__file__).parents[1]
    assert f'version = "{VERSION}"' in (checkout / "pyproject.toml").read_text("utf-8"), checkout
    target.mkdir(parents=True, exist_ok=True)
    out = target.resolve() / "folder"
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        corpus = Path(work) / CORPUS
        write_corpus(checkout / "samples" / "deepdialogue-xtts", corpus)
        build(corpus, out)
        rows = read_rows(out)
        records = {"corpus": record_corpus(corpus, rows), "rows": digests(rows.values())}
    compress_pictures(out)
    os.chdir(out.parent)  # a state holds the folder's address as it was given
    records["loader_state"] = record_loads(out)
    for name, record in records.items():
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        (out.parent / f"{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
