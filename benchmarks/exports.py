"""Exports beside the writers of the tools that they are for: audio seconds a second of CPU, in one run.

Rows are cuts of the bundled speech at 16 kHz, six turns a conversation. lhotse's own `to_shar` gets the
channels of whole conversations, or the turns, as WAV files in a manifest; webdataset's own ShardWriter gets
the members of its samples as bytes, read by pyarrow. Ours begin with the rows: they place clips in channels,
count, and write what a killed export needs to go on. NeMo has no writer of its own.
Each writing is a process of its own, imports not counted; rounds take turns, and ratios are of medians.

    python benchmarks/exports.py [--rounds 3] [--dialogues 120] [--only NAME …]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent)]

from machine import CanNotRunError
from machine import announce
from machine import run

Work = Callable[[], object]


def ours(name: str, **options: Any) -> Callable[[Path, Path], Work]:
    """An export of `EXPORTS`, of rows into a folder; what it imports is imported."""

    def ready(work: Path, out: Path) -> Work:
        import pkgutil

        from speechrows.interop.exports import EXPORTS
        from speechrows.interop.exports import export

        pkgutil.resolve_name(EXPORTS[name].function)
        return lambda: export(name, str(work / "rows"), out, EXPORTS[name].options(**options))

    return ready


def lhotse(cuts: str, form: str) -> Callable[[Path, Path], Work]:
    """lhotse's own writer of SHAR, of WAV files that a manifest names."""

    def ready(work: Path, out: Path) -> Work:
        from lhotse import CutSet

        os.chdir(work / cuts)  # lhotse takes paths from there on
        names = ["recording", "target_audio"] if cuts == "conversation" else ["recording"]
        out.mkdir()
        return lambda: CutSet.from_file("cuts.jsonl.gz").to_shar(
            out, fields=dict.fromkeys(names, form), shard_size=1000
        )

    return ready


def webdataset(work: Path, out: Path) -> Work:
    """webdataset's own writer, of the members that our samples have."""
    import pyarrow.parquet as pq
    from webdataset import ShardWriter

    def write() -> None:
        with ShardWriter(f"{out}/train-%06d.tar", maxsize=512 << 20, verbose=0) as writer:
            for path in sorted((work / "rows/data").rglob("*.parquet")):
                for batch in pq.ParquetFile(path).iter_batches(64):
                    for row in batch.to_pylist():
                        clip, _ = row.pop("audio"), row.pop("target_audio")
                        text = row["messages"][1]["content"]
                        key = row["row_id"].replace("/", "-").replace(".", "-")
                        writer.write(
                            {
                                "__key__": key,
                                "wav": clip["bytes"],
                                "json": json.dumps(row, ensure_ascii=False).encode(),
                                "txt": text.encode(),
                            }
                        )

    out.mkdir()
    return write


# Of each peer what does the same work comes first, ours beside it.
CONTENDERS: dict[str, Callable[[Path, Path], Work]] = {
    "lhotse, to_shar of conversations, flac": lhotse("conversation", "flac"),
    "lhotse, to_shar of conversations, wav": lhotse("conversation", "wav"),
    "ours: export lhotse": ours("lhotse"),
    "lhotse, to_shar of turns, flac": lhotse("turn", "flac"),
    "lhotse, to_shar of turns, wav": lhotse("turn", "wav"),
    "ours: export lhotse --cuts turn": ours("lhotse", cuts="turn"),
    "webdataset, ShardWriter": webdataset,
    "ours: export webdataset": ours("webdataset"),
    "ours: export nemo": ours("nemo"),
    "ours: export nemo --form duplex": ours("nemo", form="duplex"),
    "ours: export moshi": ours("moshi"),
    "ours: export sharegpt": ours("sharegpt"),
}
BESIDE = {
    "ours: export lhotse": "lhotse, to_shar of conversations, flac",
    "ours: export lhotse --cuts turn": "lhotse, to_shar of turns, flac",
    "ours: export webdataset": "webdataset, ShardWriter",
}


def prepare(work: Path, dialogues: int) -> None:
    """Build rows, and write for lhotse the channels and the turns as WAV files with their manifests."""
    import soundfile
    from lhotse import CutSet

    from speechrows.interop.lhotse import export
    from speechrows.interop.options import LhotseOptions

    corpus = [sys.executable, str(HERE / "loader_corpus.py"), str(work / "rows"), str(dialogues)]
    subprocess.run(corpus, check=True, stdout=subprocess.DEVNULL)
    for cuts in ("conversation", "turn"):
        export(str(work / "rows"), work / f"{cuts}-flac", LhotseOptions(format="manifest", cuts=cuts))
        (work / f"{cuts}-flac/train").rename(work / cuts)
        for path in [*(work / cuts).rglob("*.flac")]:
            samples, rate = soundfile.read(path, dtype="int16")
            soundfile.write(path.with_suffix(".wav"), samples, rate, "PCM_16")
            path.unlink()
        manifest = CutSet.from_file(work / cuts / "cuts.jsonl.gz")
        lines = json.loads(json.dumps([cut.to_dict() for cut in manifest]).replace(".flac", ".wav"))
        CutSet.from_dicts(lines).to_eager().to_file(work / cuts / "cuts.jsonl.gz")


def measure(name: str, work: Path) -> None:
    """Print the CPU seconds of a writing, and the seconds of the rows' clips, as JSON."""
    from speechrows.folder.index import Index

    index, out = Index.open(str(work / "rows"), "ttt"), work / "out"
    shutil.rmtree(out, ignore_errors=True)
    write = CONTENDERS[name](work, out)
    before = time.process_time()
    write()
    print(json.dumps({
        "cpu_s": time.process_time() - before,
        "audio_s": float((index.num_samples / index.sampling_rate).sum()),
    }))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dialogues", type=int, default=120)
    parser.add_argument("--only", nargs="+", choices=[*CONTENDERS], default=[*CONTENDERS])
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "WORK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]))
        return
    announce(30 + 6 * options.rounds * len(options.only) * options.dialogues / 120)
    rates: dict[str, list[float]] = {name: [] for name in options.only}
    failed = dict[str, str]()
    with tempfile.TemporaryDirectory() as work:
        prepare(Path(work), options.dialogues)
        for _ in range(options.rounds):
            for name in options.only:
                try:
                    epoch = run([sys.executable, str(HERE / "exports.py"), "--measure", name, work])
                    rates[name].append(epoch["audio_s"] / epoch["cpu_s"])
                except CanNotRunError as error:
                    failed[name] = str(error)
    print("| | audio-s a CPU second (median, min to max) | of the peer's |\n|---|---:|---:|")
    middles = {name: statistics.median(values) for name, values in rates.items() if values}
    for name, values in rates.items():
        if not values:
            print(f"| {name} | can not run: {failed[name]} | – |")
            continue
        base = middles.get(BESIDE.get(name, ""))
        ratio = "–" if base is None else f"{middles[name] / base:.2f}"
        print(f"| {name} | {middles[name]:,.0f} ({min(values):,.0f} to {max(values):,.0f}) | {ratio} |")


if __name__ == "__main__":
    main()
