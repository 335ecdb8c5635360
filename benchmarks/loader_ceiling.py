"""The loader beside the reading of its clips alone, epoch by epoch in turn in one process.

Speed here drifts from minute to minute: a ratio is that of neighbours, and the median of many is printed.
What is alone reads the clips' samples in the plan's order; neither it nor ours is timed while it opens,
but a later epoch makes its plan.

    python benchmarks/loader_ceiling.py [--rounds 40] [--dialogues 600] [--mean 5] [--work DIR]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from loader import make_rows
from loader_ours import read_alone

import speechrows
from speechrows.loader.loader import Loader


def alone(loader: Loader) -> None:
    for _ in read_alone(loader):
        pass


def epoch(loader: Loader) -> None:
    with closing(loader.ragged()) as batches:
        for ragged in batches:
            ragged.release()


def seconds(read: Callable[[Loader], None], loader: Loader) -> float:
    start = time.perf_counter()
    read(loader)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--dialogues", type=int, default=600)
    parser.add_argument("--mean", type=float, default=5.0, help="seconds of a clip")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".work")
    options = parser.parse_args()
    folder = make_rows(options.work, f"rows{options.mean:g}", options.dialogues, "--mean", str(options.mean))
    readings = {"alone": alone, "first epoch": epoch, "later epoch": epoch}
    taken: dict[str, list[float]] = {name: [] for name in readings}
    for number in range(options.rounds + 1):
        loader = speechrows.load(str(folder), "ttt", mode="bucket", budget_seconds=200.0)
        loader.plan  # noqa: B018  # made now
        for name, read in readings.items():
            taken[name].append(seconds(read, loader))
        if not number:  # it finds neither code nor files in memory
            taken = {name: [] for name in readings}
    index = loader.index
    audio = float((index.num_samples / index.sampling_rate).sum())
    print(f"{len(index)} rows, {audio:.0f} s of audio, {options.rounds} rounds in turn")
    print("| | audio s a second | of the audio alone |\n|---|---:|---:|")
    for name, times in taken.items():
        ratios = np.divide(taken["alone"], times)
        print(f"| {name} | {audio / statistics.median(times):,.0f} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
