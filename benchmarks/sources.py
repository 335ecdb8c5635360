"""Building rows from tar archives, parquet and tables, against streaming the same bytes, side by side.

The unit is Python's own: `tarfile` through the members of the archive, or pyarrow through the
batches of the parquet file, decompression included, with nothing done to what is read. Clips are
real speech of the bundled samples, cut and scaled anew each time, so that gzip finds in them what it
finds in real ones. Tables are four files, a row a turn: conversation after conversation, or shuffled over
all four.

    python benchmarks/sources.py [--rounds 5] [--mb 400] [--only KIND]… [--work /dev/shm/bench]
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from machine import announce
from machine import made_once
from toys.corpus import wav

SPEECH = ROOT / "samples/deepdialogue-xtts/data"
TEXT = "we saw the quiet river turn gold and every boat went home before rain came down again"
RATE = 16_000


def clips(num_bytes: int) -> Iterator[bytes]:
    """WAVs of 4 to 9 seconds, PCM 16, until they weigh so much."""
    rng = np.random.default_rng(0)
    speech = np.concatenate(
        [soundfile.read(path, dtype="float32")[0] for path in sorted(SPEECH.rglob("*.wav"))]
    )
    speech = np.tile(speech, 1 + 10 * RATE // len(speech))
    while num_bytes > 0:
        start, size = rng.integers(len(speech) - 9 * RATE), rng.integers(4 * RATE, 9 * RATE)
        wave = speech[start : start + size] * rng.uniform(8_000, 30_000)
        clip = wav(wave.astype("<i2").tobytes(), RATE)
        num_bytes -= len(clip)
        yield clip


def write_multidialog(folder: Path, num_bytes: int, turns: int = 20) -> None:
    """One archive of whole conversations, and its metadata."""
    archive = folder / "data/train/train_chunks_0000.tar.gz"
    metadata = folder / "metadata/train/train_metadata_0000.jsonl"
    archive.parent.mkdir(parents=True)
    metadata.parent.mkdir(parents=True)
    lines = []
    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        for i, clip in enumerate(clips(num_bytes)):
            conversation, turn = f"t_{i // turns:08x}", i % turns
            name = f"{conversation}/{conversation}_{turn}_{'ab'[turn % 2]}.wav"
            member = tarfile.TarInfo(name)
            member.size = len(clip)
            tar.addfile(member, io.BytesIO(clip))
            line = {"conv_id": conversation, "utterance_id": turn, "from": ("human", "gpt")[turn % 2]}
            lines.append(json.dumps({**line, "audpath": name, "value": TEXT, "emotion": "neutral"}))
    metadata.write_text("\n".join(lines) + "\n", "utf-8")


def write_ami(folder: Path, num_bytes: int) -> None:
    """One parquet file as `datasets` writes them: 100 rows a group, snappy."""
    place = folder / "edinburghcstr/ami/ihm/train-00000-of-00001.parquet"
    place.parent.mkdir(parents=True)
    audio = [{"bytes": clip, "path": None} for clip in clips(num_bytes)]
    table = {
        "meeting_id": ["EN2001a"] * len(audio),
        "audio_id": [f"AMI_{i}" for i in range(len(audio))],
        "text": [TEXT.upper()] * len(audio),
        "audio": pa.array(audio, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    }
    pq.write_table(pa.table(table), place, row_group_size=100)


def write_table(folder: Path, num_bytes: int, turns: int = 20) -> None:
    """Four files of conversations' turns in order, 100 rows a group."""
    folder.mkdir(parents=True)
    kept = list(clips(num_bytes))
    _write_files(folder, [(f"call_{i // turns:05d}", i % turns, clip) for i, clip in enumerate(kept)])


def write_shuffled(folder: Path, num_bytes: int, turns: int = 20) -> None:
    """The same turns, wherever chance puts them."""
    folder.mkdir(parents=True)
    rows = [(f"call_{i // turns:05d}", i % turns, clip) for i, clip in enumerate(clips(num_bytes))]
    _write_files(folder, [rows[i] for i in np.random.default_rng(0).permutation(len(rows))])


def _write_files(folder: Path, rows: list[tuple[str, int, bytes]], num_files: int = 4) -> None:
    size = -(-len(rows) // num_files)
    for number in range(num_files):
        names, turns, sound = zip(*rows[number * size : (number + 1) * size], strict=True)
        table = {
            "call_id": names,
            "turn": turns,
            "speaker": ["ab"[turn % 2] for turn in turns],
            "text": [TEXT] * len(turns),
            "audio": pa.array(
                [{"bytes": clip, "path": None} for clip in sound],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
        }
        path = folder / f"train-{number:05d}-of-{num_files:05d}.parquet"
        pq.write_table(pa.table(table), path, row_group_size=100)


def stream_tar(folder: Path, out: Path) -> None:  # noqa: ARG001
    """Every member's bytes, by tarfile alone."""
    for archive in folder.rglob("*.tar.gz"):
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                file.read()
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]


def stream_parquet(folder: Path, out: Path) -> None:  # noqa: ARG001
    """Every batch, by pyarrow alone."""
    for path in folder.rglob("*.parquet"):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(64):
                assert len(batch)


def build(builder: str, config: str) -> Callable[[Path, Path], None]:
    """`speechrows build`, one process."""

    def run(folder: Path, out: Path) -> None:
        from speechrows.builder.builder import load_builder
        from speechrows.builds.run import build as build_job

        for job in load_builder(builder)(config_name=config, data_dir=str(folder)).jobs():
            build_job(job, out / "rows")

    return run


CORPORA = {
    "tar.gz": write_multidialog,
    "parquet": write_ami,
    "table": write_table,
    "shuffled": write_shuffled,
}
CONTENDERS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "tarfile alone": ("tar.gz", stream_tar),
    "speechrows build multidialog_ttt ttt": ("tar.gz", build("multidialog_ttt", "ttt")),
    "pyarrow alone": ("parquet", stream_parquet),
    "speechrows build omni_tasks transcription": ("parquet", build("omni_tasks", "transcription")),
    "pyarrow alone, a table in order": ("table", stream_parquet),
    "speechrows build audio_table ttt": ("table", build("audio_table", "ttt")),
    "pyarrow alone, a shuffled table": ("shuffled", stream_parquet),
    "speechrows build audio_table ttt, shuffled": ("shuffled", build("audio_table", "ttt")),
}


def child(name: str, work: Path) -> None:
    """Run one contender twice, and print the seconds of the second time: imports are not counted."""
    kind, run = CONTENDERS[name]
    for _ in range(2):
        shutil.rmtree(work / "out", ignore_errors=True)
        (work / "out").mkdir()
        started = time.perf_counter()
        run(work / kind, work / "out")
        seconds = time.perf_counter() - started
    print(seconds)


def main() -> None:
    """Time everything and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mb", type=int, default=400)
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks/.work/sources")
    parser.add_argument("--only", choices=CORPORA, action="append", help="of these kinds alone")
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        child(options.child, options.work)
        return
    kinds = options.only or list(CORPORA)
    announce((8 + 11 * options.rounds) * len(kinds) * options.mb / 400)
    for kind in kinds:
        made_once(options.work / kind, partial(CORPORA[kind], num_bytes=options.mb << 20))
    times: dict[str, list[float]] = {name: [] for name, (kind, _) in CONTENDERS.items() if kind in kinds}
    for _ in range(options.rounds):
        for name, seconds in times.items():
            os.sync()
            command = [sys.executable, __file__, "--work", str(options.work), "--child", name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds.append(float(done.stdout.split()[-1]))
    units = {kind: name for name, (kind, _) in reversed(CONTENDERS.items())}
    print("| | time, streaming alone = 1 (median, min to max) | seconds |\n|---|---|---:|")
    for name, seconds in times.items():
        unit = times[units[CONTENDERS[name][0]]]
        ratios = sorted(a / b for a, b in zip(seconds, unit, strict=True))
        median = statistics.median(seconds)
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {name} | {ratio} | {median:.2f} |")
    shutil.rmtree(options.work, ignore_errors=True)


if __name__ == "__main__":
    main()
