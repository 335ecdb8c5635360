"""Building rows against its peers and the disk, side by side in one run, as ratios.

The rate is marginal, a large corpus minus a small one, so that start-up does not count; the fixed
cost is what remains. Rounds interleave the contenders, since a shared machine's speed drifts; where others
are busy on it, seconds of CPU tell more than the clock.

    python benchmarks/build.py [--rounds 5] [--dialogues 360] [--peers] [--work /dev/shm/bench]
"""

import argparse
import os
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent
PEERS = ROOT / ".venv-bench"
NEEDS_PEERS = ("audiofolder", "lhotse_shar")
SLOW = ("founding_script", "audiofolder", "lhotse_shar")  # one round in two

sys.path.insert(0, str(ROOT / "tests"))

from contenders import CONTENDERS
from machine import CanNotRunError
from machine import announce
from machine import last_line
from machine import made_once
from toys.corpus import write_corpus


def corpus(work: Path, dialogues: int) -> tuple[str, int]:
    """A synthetic DeepDialogue of 24 kHz WAVs as long as the real ones, and its audio's bytes."""
    write = partial(write_corpus, dialogues=dialogues, turns=6, seconds=7.66)
    folder = made_once(work / f"corpus-{dialogues}", write)
    return str(folder), sum(clip.stat().st_size for clip in folder.rglob("*.wav"))


def install_peers() -> None:
    """lhotse, torch and torchcodec in a venv of the benchmark's own."""
    if (PEERS / "installed").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
    pip = [PEERS / "bin/pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    packages = ("torch", "torchcodec", "datasets", "soundfile", "lhotse", "urllib3")
    if subprocess.run([*pip, *packages], check=False).returncode == 0:  # else each peer says what it lacks
        (PEERS / "installed").touch()


class Took(NamedTuple):
    """What a contender took."""

    seconds: float
    cpu: float
    peak_mb: float


def time_one(name: str, folder: str, work: Path) -> Took:
    """What one contender took of one corpus.

    Raises:
        CanNotRunError: it ended with an error.
    """
    python = PEERS / "bin/python" if name in NEEDS_PEERS else Path(sys.executable)
    command = [str(python), str(HERE / "contenders.py"), name, folder, str(work / "out")]
    os.sync()  # what another wrote is not this one's to bring to disk
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CanNotRunError(last_line(done.stderr))
    return Took(*map(float, done.stdout.split()[-3:]))


def ratios(values: dict[int, float], units: dict[int, float]) -> str:
    """Median, least and most of what a contender took by the unit of the same round."""
    of_rounds = [value / units[number] for number, value in values.items()]
    return f"{statistics.median(of_rounds):.2f} ({min(of_rounds):.2f} to {max(of_rounds):.2f})"


def main() -> None:
    """Time everything and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dialogues", type=int, default=360)
    parser.add_argument("--peers", action="store_true", help="lhotse, audiofolder, the founding script too")
    parser.add_argument(
        "--work", type=Path, default=HERE / ".work/build", help="a folder on the disk to measure"
    )
    parser.add_argument("--only", nargs="*", help="these contenders alone")
    options = parser.parse_args()
    names = (
        ["bare_column", *options.only]
        if options.only
        else [name for name in CONTENDERS if options.peers or name not in SLOW]
    )
    if set(names) & set(NEEDS_PEERS):
        install_peers()
    work = options.work
    share = len(names) / 8 + 8 * options.peers  # the founding script takes as long as all others
    announce((30 + 45 * options.rounds * share) * options.dialogues / 360)
    small, small_bytes = corpus(work, options.dialogues // 6)
    large, large_bytes = corpus(work, options.dialogues)
    refusals: list[str] = []
    for name in [*names]:
        try:
            time_one(name, small, work)  # warms the page cache, and imports
        except CanNotRunError as error:
            names.remove(name)
            refusals.append(f"| {name} | can not run here: {error} |")
    marginal: dict[str, dict[int, float]] = {name: {} for name in names}  # by round
    marginal_cpu: dict[str, dict[int, float]] = {name: {} for name in names}
    fixed: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, float] = {}
    for number in range(options.rounds):
        for name in names:
            if name in SLOW and number % 2:
                continue
            short, long = time_one(name, small, work), time_one(name, large, work)
            marginal[name][number] = more = long.seconds - short.seconds
            marginal_cpu[name][number] = long.cpu - short.cpu
            fixed[name].append(short.seconds - more * small_bytes / (large_bytes - small_bytes))
            peaks[name] = long.peak_mb
    print(f"{large_bytes / 1e6:.0f} MB minus {small_bytes / 1e6:.0f} MB of WAV, {options.rounds} rounds\n")
    head = ("", "time, bare column = 1 (median, min to max)", "CPU time", "MB/s", "fixed s", "peak MB")
    print(f"| {' | '.join(head)} |\n|---|---|---|---:|---:|---:|")
    for name in names:
        speed = (large_bytes - small_bytes) / 1e6 / statistics.median(marginal[name].values())
        cells = (
            name,
            ratios(marginal[name], marginal["bare_column"]),
            ratios(marginal_cpu[name], marginal_cpu["bare_column"]),
            f"{speed:.0f}",
            f"{statistics.median(fixed[name]):.2f}",
            f"{peaks[name]:.0f}",
        )
        print(f"| {' | '.join(cells)} |")
    print("\n".join(refusals))


if __name__ == "__main__":
    main()
