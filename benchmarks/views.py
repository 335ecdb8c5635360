"""Views of conversations beside mode `bucket`: audio seconds a second of CPU, on the same rows in one run.

Rows are cuts of the bundled speech at 16 kHz, six turns a conversation. Each reading is epochs in a process
of its own, torch on one thread, after one that fills caches; rounds take turns, and the ratio is of medians.
Audio seconds are those of the clips, once: a duplex batch also holds the silence of both channels.

    python benchmarks/views.py [--rounds 3] [--dialogues 240] [--repeats 3] [--only NAME …]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent)]

from machine import announce
from machine import run

BATCH = 8  # conversations; as many seconds in `bucket`
SECONDS = 240


def bucket(rows: str, sampling_rate: int = 16_000) -> Iterable[Any]:
    import speechrows

    return speechrows.load(rows, "ttt", budget_seconds=SECONDS, sampling_rate=sampling_rate)


def duplex(rows: str, target_sample_rate: int) -> Iterable[Any]:
    from toys.tokenizer import bpe

    import speechrows

    return speechrows.load_duplex(
        rows,
        "ttt",
        tokenizer=bpe(),
        overflow="cut",
        batch_size=BATCH,
        source_sample_rate=16_000,
        target_sample_rate=target_sample_rate,
    )


def interleaved(rows: str, pattern: Any) -> Iterable[Any]:
    import speechrows

    return speechrows.load_interleaved(rows, "ttt", codes=codes(rows), pattern=pattern, batch_size=BATCH)


def codes(rows: str) -> str:
    """A sidecar of random codes of the rows' clips; where they lie."""
    import numpy as np
    from toys.building import read_rows

    from speechrows.codec import CODECS
    from speechrows.codec import num_frames
    from speechrows.generate.writer import SidecarWriter

    folder, spec, rng = Path(f"{rows}-codes"), CODECS["mimi"], np.random.default_rng(0)
    if not folder.exists():
        with SidecarWriter.open(folder, {"kind": "mimi", "codec": "mimi"}) as writer:
            for row in read_rows(Path(rows)):
                frames = num_frames(row["num_samples"], row["sampling_rate"], spec)
                writer.add(row["clip_id"], rng.integers(2048, size=(8, frames)).astype(np.int16))
    return str(folder)


def thirteen_to_26() -> Any:
    from speechrows.conversations.patterns import Ratio

    return Ratio(text=13, speech=26)


CONTENDERS: dict[str, Callable[[str], Iterable[Any]]] = {
    "bucket": bucket,
    "bucket at 22 050 Hz": lambda rows: bucket(rows, 22_050),
    "duplex": lambda rows: duplex(rows, 16_000),
    "duplex, target at 22 050 Hz": lambda rows: duplex(rows, 22_050),
    "interleaved, Moshi's streams": lambda rows: interleaved(rows, "moshi"),
    "interleaved, 13 to 26": lambda rows: interleaved(rows, thirteen_to_26()),
}


def measure(name: str, rows: str, repeats: int) -> None:
    """Print the CPU seconds of an epoch, and the seconds of its clips, as JSON."""
    from speechrows.folder.index import Index

    loader = CONTENDERS[name](rows)
    for _ in loader:
        pass
    before = sum(os.times()[:2])
    for _ in range(repeats):
        for _ in loader:
            pass
    index = Index.open(rows, "ttt")
    print(json.dumps({
        "cpu_s": (sum(os.times()[:2]) - before) / repeats,
        "audio_s": float((index.num_samples / index.sampling_rate).sum()),
    }))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dialogues", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=3, help="epochs of a reading")
    parser.add_argument("--only", nargs="+", choices=[*CONTENDERS], default=[*CONTENDERS])
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure, options.repeats)
        return
    announce(15 + 12 * options.rounds * len(options.only) * options.dialogues / 240)
    names = [*dict.fromkeys(["bucket", *options.only])]
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as work:
        rows = f"{work}/rows"
        corpus = [sys.executable, str(HERE / "loader_corpus.py"), rows, str(options.dialogues)]
        subprocess.run(corpus, check=True, stdout=subprocess.DEVNULL)
        for _ in range(options.rounds):
            for name in names:
                command = [sys.executable, str(HERE / "views.py"), "--repeats", str(options.repeats)]
                figures = run([*command, "--measure", name, rows])
                rates[name].append(figures["audio_s"] / figures["cpu_s"])
    print("| | audio-s a CPU second (median, min to max) | of bucket's |\n|---|---:|---:|")
    base = statistics.median(rates["bucket"])
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"| {name} | {middle:,.0f} ({min(values):,.0f} to {max(values):,.0f}) | {middle / base:.2f} |")


if __name__ == "__main__":
    main()
