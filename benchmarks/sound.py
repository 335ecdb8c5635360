"""`generate traits` and `screen` beside a plain loop over librosa, in one run: audio seconds a CPU second.

Clips are the speech under samples/, several joined to about ten seconds each, 24 kHz WAV. Every run is a
process of its own, warmed up first, that counts its CPU time in all threads: a shared machine's clock drifts.
librosa reads, resamples, and takes pitch (yin, as fast as it has; pyin, its careful one, on a tenth of the
clips), the level of frames, and the speech between silences.

    python benchmarks/sound.py [--rounds 3] [--minutes 20]
"""

import argparse
import io
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from machine import CanNotRunError
from machine import Epoch
from machine import announce
from machine import run

HERE = Path(__file__).parent
RATE_HZ = 24_000
CONTENDERS = ("generate traits", "screen", "librosa, yin", "librosa, pyin")


def write_clips(folder: Path, minutes: float) -> None:
    """Clips of about ten seconds, with what they say, as a table of one's own."""
    paths = sorted((HERE.parent / "samples").rglob("segments/*.wav"))
    speech = [soundfile.read(path, dtype="int16") for path in paths]
    waves = itertools.cycle([wave for wave, rate_hz in speech if rate_hz == RATE_HZ])
    lines = list[str]()
    while len(lines) * 10 < minutes * 60:
        parts = list[np.ndarray]()
        while sum(map(len, parts)) < 10 * RATE_HZ:
            parts.append(next(waves))
        soundfile.write(folder / f"{len(lines):05d}.wav", np.concatenate(parts), RATE_HZ)
        lines.append(json.dumps({"audio": f"{len(lines):05d}.wav", "text": "a word and another " * 8}))
    (folder / "clips.jsonl").write_text("\n".join(lines))


def run_traits(rows: Path, out: Path) -> float:
    from speechrows.generate.selection import ClipSelection
    from speechrows.generate.traits import make
    from speechrows.generate.writer import SidecarWriter

    with SidecarWriter.open(out, {"kind": "traits", "version": 1}) as writer:
        return make(ClipSelection(address=str(rows)).clips(audio=True), writer, num_threads=2).audio_s


def run_screen(rows: Path, out: Path) -> float:
    from speechrows.folder.rows_folder import RowsFolder
    from speechrows.screening.screen import screen

    screen(str(rows), out=out.with_suffix(".parquet"))
    lines = RowsFolder.open(rows).index("transcription", "train", ["num_samples"])
    return sum(lines["num_samples"].to_pylist()) / RATE_HZ


def run_librosa(clips: Path, pitch: str, share: int) -> float:
    import librosa

    seconds = 0.0
    for path in sorted(clips.glob("*.wav"))[::share]:
        samples, rate_hz = librosa.load(io.BytesIO(path.read_bytes()), sr=16_000)
        if pitch == "yin":
            librosa.yin(samples, fmin=60, fmax=500, sr=rate_hz, frame_length=1024, hop_length=320)
        else:
            librosa.pyin(samples, fmin=60, fmax=500, sr=rate_hz, frame_length=1024, hop_length=320)
        librosa.amplitude_to_db(librosa.feature.rms(y=samples), ref=np.max)
        librosa.effects.split(samples, top_db=30)
        seconds += len(samples) / rate_hz
    return seconds


def contend(name: str, clips: Path, rows: Path, out: Path) -> float:
    if name == "generate traits":
        return run_traits(rows, out)
    if name == "screen":
        return run_screen(rows, out)
    pitch = name.rpartition(" ")[2]
    return run_librosa(clips, pitch, 1 if pitch == "yin" else 10)


def measure(name: str, work: Path) -> None:
    """Run a contender on a few clips, then on all, and print its speed and its memory."""
    for size in ("few", "all"):
        began = time.process_time()
        clips = work / size
        out = work / f"{size}-out-{time.monotonic_ns()}"
        seconds = contend(name, clips, work / f"{size}-rows", out)
        speed = seconds / (time.process_time() - began)
    print(json.dumps({"rate": speed, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        measure(options.contender, options.work)
        return
    announce(20 + options.rounds * (40 + options.minutes * 60 / 60))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for size, minutes in (("few", 1.0), ("all", options.minutes)):
            (work / size).mkdir()
            write_clips(work / size, minutes)
            build = ["build", "audio_table", "transcription", "--data-dir", str(work / size)]
            command = [sys.executable, "-m", "speechrows", *build, "--out", str(work / f"{size}-rows")]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        runs_of: dict[str, list[Epoch]] = {name: [] for name in CONTENDERS}
        refusals: dict[str, str] = {}
        for _ in range(options.rounds):
            for name in [name for name in CONTENDERS if name not in refusals]:
                command = [sys.executable, __file__, "--contender", name, "--work", str(work)]
                try:
                    runs_of[name].append(run(command))
                except CanNotRunError as error:
                    refusals[name] = f"| {name} | can not run here: {error} | |"
    print("| | audio seconds a CPU second (median, min to max) | peak MB |\n|---|---:|---:|")
    for name, runs in runs_of.items():
        if name in refusals:
            print(refusals[name])
            continue
        rates, peaks = [[each[value] for each in runs] for value in ("rate", "peak_mb")]
        spread = f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        print(f"| {name} | {spread} | {max(peaks):.0f} |")


if __name__ == "__main__":
    main()
