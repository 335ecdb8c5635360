"""Loading rows: ours beside its peers, side by side in one run, as ratios.

Rates are marginal, an epoch of many rows minus one of a fifth of them, from files in the page cache.
Every reading is in a process of its own, torch on one thread; rounds interleave the contenders, since a
shared machine's speed drifts. Where others are busy on it, seconds of CPU tell more than the clock.
Cold readings are from the disk of `--work`, also at most `--throttle` MB/s where a cgroup can do that.

    python benchmarks/loader.py [--rounds 3] [--dialogues 600] [--work DIR] [--only speed flac …]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loader_order import lost_and_doubled
from loader_order import mixing
from loader_order import properties
from machine import CGROUP
from machine import CanNotRunError
from machine import Epoch
from machine import announce
from machine import forget
from machine import join
from machine import made_once
from machine import others_share
from machine import run
from machine import throttle
from machine import warm

HERE = Path(__file__).parent
PEERS = HERE / ".work/peers"
MADE = ("datasets", "lhotse", "webdataset", "litdata", "mosaic")


@dataclass(frozen=True, kw_only=True)
class Contender:
    name: str
    script: str  # of ours, or a peer's name
    flags: tuple[str, ...] = ()
    slow: bool = False  # one round
    names: bool = True  # whether it tells which rows it gave

    @property
    def is_ours(self) -> bool:
        return self.script in ("ragged", "padded", "alone")

    def command(self, folder: Path) -> list[str]:
        if self.is_ours:
            return [sys.executable, str(HERE / "loader_ours.py"), self.script, str(folder), *self.flags]
        python = str(PEERS / "bin/python")
        return [python, str(HERE / "loader_peers.py"), self.script, str(folder), *self.flags]


TRIES = 3  # of peers, before it is taken that there is no way to any
REPEATS = 5  # of ours: an epoch takes it a tenth of a second
AGAIN = ("--repeats", str(REPEATS))
INT16 = ("--int16",)
SPEED = [
    Contender(name="**ours, ragged int16 + tokens + labels**", script="ragged", flags=AGAIN),
    Contender(name="ours, audio alone, no threads", script="alone", flags=AGAIN, names=False),
    Contender(name="**ours, padded float32 on the CPU**", script="padded", flags=AGAIN),
    Contender(name="lhotse SHAR, bucketed", script="lhotse"),
    Contender(name="the same, 2 workers", script="lhotse", flags=("--workers", "2")),
    Contender(name="datasets streaming + soundfile", script="datasets"),
    Contender(name="datasets streaming, ragged int16", script="datasets", flags=INT16),
    Contender(name="datasets + torchcodec", script="torchcodec", slow=True),
    Contender(name="webdataset + soundfile", script="webdataset"),
    Contender(name="webdataset, ragged int16", script="webdataset", flags=INT16),
    Contender(name="litdata + soundfile", script="litdata"),
    Contender(name="litdata, ragged int16", script="litdata", flags=INT16),
    Contender(name="MDS + soundfile", script="mosaic"),
    Contender(name="MDS, ragged int16", script="mosaic", flags=INT16),
]
FLAC = [
    Contender(name="**ours, 1 thread**", script="ragged", flags=("--threads", "1")),
    Contender(name="**ours, 2 threads**", script="ragged", flags=("--threads", "2")),
    Contender(name="datasets + soundfile", script="datasets"),
    Contender(name="the same, 2 workers", script="datasets", flags=("--workers", "2")),
]
RESUME = [Contender(name="**ours**", script="ragged")]
RESUME += [contender for contender in SPEED if contender.script in MADE and not contender.flags]


def install_peers() -> None:
    """The peers in a venv of the benchmark's own, at the versions of requirements-peers.txt."""
    requirements = HERE / "requirements-peers.txt"
    done = PEERS / "installed.txt"
    if done.exists() and done.read_text() == requirements.read_text():
        return
    subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
    pip = [PEERS / "bin/pip", "install", "--quiet", "--no-deps"]
    if subprocess.run([*pip, "-r", requirements], check=False).returncode == 0:
        done.write_text(requirements.read_text())
        return
    print("Not all peers can be installed together here; each is tried alone.", flush=True)
    lines = [line for line in requirements.read_text().splitlines() if line and not line.startswith("#")]
    failed = 0
    for number, line in enumerate(lines, 1):
        failed += subprocess.run([*pip, line], check=False).returncode != 0
        if number == failed == TRIES:
            print(f"The first {TRIES} can not be had: no index is at hand, no peer is tried.", flush=True)
            break


def that_start(contenders: list[Contender], folders: list[Path]) -> tuple[list[Contender], list[str]]:
    """Those that read a first batch here, each from its own format; lines of the table for the others."""
    able, lines = [], list[str]()
    for contender in contenders:
        try:
            for rows in folders:
                place(contender, rows)
            run([*contender.command(place(contender, folders[0])), "--stop", "1"])
            able.append(contender)
        except CanNotRunError as error:
            lines.append(f"| {contender.name} | can not run here: {error} |")
    return able, lines


def make_rows(work: Path, name: str, dialogues: int, *flags: str) -> Path:
    """Rows of so many dialogues, kept for the next run."""
    folder = work / f"{name}-{dialogues}"
    if not (folder / "README.md").exists():
        run([sys.executable, str(HERE / "loader_corpus.py"), str(folder), str(dialogues), *flags])
    return folder


def converted(peer: str, rows: Path) -> Path:
    """The same rows in a peer's format."""
    name = "datasets" if peer == "torchcodec" else peer
    make = [str(PEERS / "bin/python"), str(HERE / "loader_peers.py"), name]

    def write(folder: Path) -> None:
        run([*make, str(folder), "--make", str(rows)])

    return made_once(rows.with_name(f"{rows.name}-{name}"), write)


def place(contender: Contender, rows: Path) -> Path:
    return rows if contender.is_ours else converted(contender.script, rows)


def median_of(values: list[float], digits: int = 0) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})".replace(",", " ")


def race(contenders: list[Contender], small: Path, large: Path, rounds: int) -> dict[str, list[Epoch]]:
    """Each contender's rounds: what it measured of the large epoch, with its marginal `rate`."""
    rounds_of: dict[str, list[Epoch]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            if contender.slow and number:
                continue
            short, long = (_reading(contender, rows) for rows in (small, large))
            more = {name: long[name] - short[name] for name in ("audio", "seconds", "cpu")}
            rates = {"rate": more["audio"] / more["seconds"], "cpu_rate": more["audio"] / more["cpu"]}
            rounds_of[contender.name].append({**long, **rates, "small": short})
    return rounds_of


def _reading(contender: Contender, rows: Path) -> Epoch:
    folder = place(contender, rows)
    warm(folder)
    return run(contender.command(folder))


def ratios(epochs: dict[str, list[Epoch]], ours: str, name: str, rate: str = "rate") -> list[float]:
    return [epoch[rate] / other[rate] for epoch, other in zip(epochs[ours], epochs[name], strict=False)]


def speed(work: Path, options: argparse.Namespace) -> None:
    small, large = (make_rows(work, "rows", count) for count in (options.dialogues // 5, options.dialogues))
    contenders, refusals = that_start(SPEED, [small, large])
    os.sync()
    epochs, busy = others_share(lambda: race(contenders, small, large, options.rounds))
    topic, speaker = properties(large)
    reading = epochs[SPEED[0].name][0]
    audio = (reading["audio"] - reading["small"]["audio"]) / REPEATS
    print(f"{audio:.0f} s of audio, {options.rounds} rounds; others kept {busy:.0%} of the machine busy.\n\n"
          "| | audio s a second (median, min to max) | a CPU second | ours by it | by CPU seconds | padding "
          "| first batch s | MB over imports: a fifth of the rows, all | noise: topic | speaker |\n"
          "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")  # fmt: skip
    for contender in contenders:
        print(f"| {' | '.join(_cells(contender, epochs, topic, speaker))} |", flush=True)
    print("\n".join(refusals))
    first_of = {contender.name: epochs[contender.name][0] for contender in contenders if contender.names}
    missed = {name: lost_and_doubled(epoch["names"], topic) for name, epoch in first_of.items()}
    wrong = [f"{name} {pair}" for name, pair in missed.items() if pair != (0, 0)]
    print(f"\nRows lost and doubled in the epoch: {', '.join(wrong) or 'none, by anyone'}.\n")


def _cells(
    contender: Contender, epochs: dict[str, list[Epoch]], topic: dict[str, float], speaker: dict[str, float]
) -> list[str]:
    rounds, ours = epochs[contender.name], SPEED[0].name
    reading, workers = rounds[0], "--workers" in contender.flags
    cells = [contender.name, median_of([each["rate"] for each in rounds])]
    cells.append("–" if workers else median_of([each["cpu_rate"] for each in rounds]))
    cells.append(median_of(ratios(epochs, ours, contender.name), 1))
    cells.append("–" if workers else median_of(ratios(epochs, ours, contender.name, "cpu_rate"), 1))
    cells += [f"{reading['padding']:.4f}", f"{statistics.median(each['first'] for each in rounds):.2f}"]
    cells.append("–" if workers else f"{reading['small']['memory']:.0f}, {reading['memory']:.0f}")
    if not contender.names:
        return [*cells, "–", "–"]
    return [*cells, *(f"{mixing(reading['names'], values):.2f}" for values in (topic, speaker))]


def flac(work: Path, options: argparse.Namespace) -> None:
    counts = options.dialogues // 15, options.dialogues // 3
    small, large = (make_rows(work, "flac", count, "--form", "FLAC") for count in counts)
    contenders, refusals = that_start(FLAC, [small, large])
    epochs, busy = others_share(lambda: race(contenders, small, large, options.rounds))
    base = FLAC[2].name if FLAC[2] in contenders else FLAC[0].name
    print(
        f"Others kept {busy:.0%} of the machine busy.\n\n"
        f"| FLAC rows | audio s a second | by {base} | by CPU seconds |\n|---|---:|---:|---:|"
    )
    for contender in contenders:
        name = contender.name
        cells = [name, median_of([each["rate"] for each in epochs[name]])]
        cells.append(median_of(ratios(epochs, name, base), 2))
        cpu = ratios(epochs, name, base, "cpu_rate")
        cells.append("–" if "--workers" in contender.flags else median_of(cpu, 2))
        print(f"| {' | '.join(cells)} |", flush=True)
    print("\n".join([*refusals, ""]))


def resume(work: Path, options: argparse.Namespace) -> None:
    large = make_rows(work, "rows", options.dialogues)
    all_rows, _ = properties(large)
    state = work / "state.pickle"
    print("| resumed at 90 % of an epoch | start s | resume s | of the rows left: lost | doubled |\n"
          "|---|---:|---:|---:|---:|")  # fmt: skip
    contenders, refusals = that_start(RESUME, [large])
    for contender in contenders:
        if contender.script == "webdataset":
            print("| webdataset | | has no state | | |")
            continue
        command = contender.command(place(contender, large))
        starts, resumes = [], []
        for _ in range(options.rounds):
            until = run([*command, "--stop", str(len(all_rows) * 9 // 10), "--state", str(state)])
            after = run([*command, "--go-on", "--state", str(state)])
            starts.append(until["first"])
            resumes.append(after["first"])
        lost, doubled = lost_and_doubled(until["names"] + after["names"], all_rows)
        remaining = len(all_rows) - sum(map(len, until["names"]))
        times = median_of(starts, 2), median_of(resumes, 2)
        cells = (contender.name, *times, f"{lost} of {remaining}", str(doubled))
        print(f"| {' | '.join(cells)} |", flush=True)
    print("\n".join([*refusals, ""]))


def first(work: Path, options: argparse.Namespace) -> None:
    dialogues = -(-options.first_rows // 6)
    rows = make_rows(work, "first", dialogues, "--mean", "0.5", "--distinct", "500")
    command = [*SPEED[0].command(rows), "--seconds", "20"]
    command += ["--stop", "1", "--state", str(work / "state.pickle")]
    readings = [run(command) for _ in range(options.rounds)]
    seconds, memory = ([reading[name] for reading in readings] for name in ("first", "memory"))
    print(f"First batch after imports, {6 * dialogues} rows: {median_of(seconds, 2)} s, "
          f"{max(memory):.0f} MB over imports\n")  # fmt: skip
    shutil.rmtree(rows)


def cold(work: Path, options: argparse.Namespace) -> None:
    folders = [make_rows(work, "rows", count) for count in (options.dialogues // 5, options.dialogues)]
    kinds = ("sequential", "ragged")
    before: dict[str, Callable[[], None] | None] = {"not throttled": None}
    if throttle(work, options.throttle):
        before[f"{options.throttle} MB/s"] = join
    print("| cold, from disk | sequential read MB/s | ours MB/s | share |\n|---|---:|---:|---:|")
    for name, hook in before.items():
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.rounds):
            for kind in kinds:
                readings = [_cold_reading(kind, folder, hook) for folder in folders]
                bytes_a_second = (readings[1]["audio"] - readings[0]["audio"]) / (
                    readings[1]["seconds"] - readings[0]["seconds"]
                )
                rates[kind].append(bytes_a_second * 32_000 / 1e6)
        share = [ours / raw for raw, ours in zip(rates["sequential"], rates["ragged"], strict=True)]
        cells = (name, median_of(rates["sequential"]), median_of(rates["ragged"]), median_of(share, 2))
        print(f"| {' | '.join(cells)} |", flush=True)
    if len(before) == 1:
        print("\nNo blkio cgroup here: throttled reading was not measured.")
    else:
        CGROUP.rmdir()
    print()


def _cold_reading(kind: str, folder: Path, hook: Callable[[], None] | None) -> Epoch:
    forget(folder)
    command = [sys.executable, str(HERE / "loader_ours.py"), kind, str(folder)]
    return run(command, hook)


MINUTES = {"speed": 18, "flac": 4, "resume": 11, "first": 3, "cold": 3}  # of three rounds, with all peers
PARTS = {"speed": speed, "flac": flac, "resume": resume, "first": first, "cold": cold}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dialogues", type=int, default=600, help="of 6 turns of about 5 s")
    parser.add_argument("--first-rows", type=int, default=250_000)
    parser.add_argument("--throttle", type=int, default=300, help="MB a second")
    parser.add_argument("--work", type=Path, default=HERE / ".work/loader", help="a folder on a disk")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--keep", action="store_true", help="leave what was made in --work")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    announce(60 * sum(MINUTES[part] for part in options.only) * options.rounds / 3)
    install_peers()
    try:
        for part in options.only:
            try:
                PARTS[part](options.work, options)
            except CanNotRunError as error:  # one that began well
                print(f"\n{part}: not measured: {error}\n", flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
