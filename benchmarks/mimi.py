"""`speechrows generate mimi` against bare model.encode, side by side in one run, as ratios.

The full-size architecture of kyutai/mimi with random weights (speed is the same), on the speech under
samples/. Every run is a process of its own, warmed up first; rounds interleave the contenders, since
a shared machine's speed drifts.

    python benchmarks/mimi.py [--rounds 3] [--minutes 4] [--threads 2] [--device cpu]
"""

import argparse
import io
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from machine import announce
from transformers import MimiConfig
from transformers import MimiModel

from speechrows.generate.clip import InputClip
from speechrows.generate.clip import LazyAudio
from speechrows.generate.encode import run
from speechrows.generate.mimi import BATCH_SECONDS
from speechrows.generate.mimi import SPEC
from speechrows.generate.mimi import MimiEncoder
from speechrows.generate.mimi import pick_device
from speechrows.generate.waves import batches
from speechrows.generate.writer import SidecarWriter
from speechrows.types import AudioRef

HERE = Path(__file__).parent
RATE = SPEC.sampling_rate


def random_mimi():
    """Full size, with centroids where the residuals of noise lie."""
    torch.manual_seed(0)
    mimi = MimiModel(MimiConfig()).eval()
    with torch.inference_mode():
        latents = mimi.encoder(0.1 * torch.randn(1, 1, RATE * 4)).latents
        quantizer = mimi.quantizer
        for half in (
            quantizer.semantic_residual_vector_quantizer,
            quantizer.acoustic_residual_vector_quantizer,
        ):
            residual = half.input_proj(latents)
            for layer in half.layers[: SPEC.num_codebooks]:
                book = layer.codebook
                book.embed_sum.copy_(torch.randn_like(book.embed_sum) * residual.std() + residual.mean())
                book._embed = None
                residual = residual - layer.decode(layer.encode(residual))
    return mimi


def speech(minutes):
    """Clips of the sample corpus, over and over, each time cut a little shorter: float32 at 24 kHz."""
    files = sorted((HERE.parent / "samples/deepdialogue-xtts").rglob("segments/*.wav"))
    clips = itertools.cycle([soundfile.read(file, dtype="float32")[0] for file in files])
    clips_made, remaining = [], int(minutes * 60 * RATE)
    while remaining > 0:
        clip = next(clips)
        clips_made.append(clip[: len(clip) - 997 * (len(clips_made) % 20)][:remaining])
        remaining -= len(clips_made[-1])
    return clips_made


def as_files(waves, form):
    """The clips as files in memory: WAV at 24 kHz, or what costs more to decode."""
    for number, wave in enumerate(waves):
        out = io.BytesIO()
        if form == "FLAC":
            samples = soxr.resample(wave, RATE, 44_100)
            soundfile.write(out, np.stack([samples, samples], axis=1), 44_100, format="FLAC")
        else:
            soundfile.write(out, wave, RATE, format="WAV")
        audio = LazyAudio(ref=AudioRef(path=f"{number}", data=out.getvalue()))
        yield InputClip(clip_id=str(number), text="", audio=audio)


def bare(model, waves, device, groups):
    """Only model.encode, on tensors that are ready."""
    tensors = []
    for places in groups:
        frames = max(-(-len(waves[place]) // SPEC.frame_size) for place in places)
        batch = torch.zeros(len(places), 1, frames * SPEC.frame_size)
        for row, place in enumerate(places):
            batch[row, 0, : len(waves[place])] = torch.from_numpy(waves[place])
        tensors.append(batch.to(device))

    def go():
        with torch.inference_mode():
            for tensor in tensors:
                model.encode(tensor, num_quantizers=SPEC.num_codebooks).audio_codes.cpu()

    return go


def contender(name, waves, device, more):
    """What to time, ready to go, its model warmed up."""
    model = random_mimi().to(device)
    bare(model, waves[:2], device, [[0], [1]])()
    lengths = [len(wave) for wave in waves]
    if name == "bare, a clip at a time":
        return bare(model, waves, device, [[place] for place in range(len(waves))])
    if name == "bare, 16 clips at once":
        order = sorted(range(len(waves)), key=lambda place: -lengths[place])
        return bare(model, waves, device, [order[at : at + 16] for at in range(0, len(order), 16)])
    seconds = BATCH_SECONDS[device.type]
    encoder = MimiEncoder(model, device, batch_seconds=seconds)
    if name == "our steps, ready tensors":
        groups = batches(lengths, int(seconds * RATE))
        return lambda: [encoder.encode([waves[place] for place in places]) for places in groups]
    clips = list(as_files(waves, "FLAC" if "FLAC" in name else "WAV"))

    def generate():
        with (
            tempfile.TemporaryDirectory() as out,
            SidecarWriter.open(Path(out), {"kind": "mimi", "codec": "mimi"}) as writer,
        ):
            verify = len(clips) if name == "verify" else 0
            report = run(clips, writer, encoder, batch_seconds=seconds, num_threads=2, verify=verify)
            more.append(report)

    return generate


CONTENDERS = (
    "bare, a clip at a time",
    "bare, 16 clips at once",
    "our steps, ready tensors",
    "generate mimi, WAV 24 kHz",
    "generate mimi, FLAC 44.1 kHz stereo",
)


def time_here(name, minutes, threads, device):
    """Time one contender. Print seconds, peak MB, seconds waited for clips, codes made again, differing."""
    torch.set_num_threads(threads)  # more than there are free cores wait for one another, spinning
    device = pick_device(device)
    more = []
    waves = speech(minutes)
    go = contender(name, waves, device, more)
    started = time.perf_counter()
    go()
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = more[0] if more else None
    waited, codes, differing = (
        (report.waited_s, report.num_verified, report.num_differing) if report else (0, 0, 0)
    )
    print(seconds, peak / 1024, waited, codes, differing)


def time_one(name, options):
    command = [sys.executable, __file__, "--one", name]
    for flag in ("minutes", "threads", "device"):
        command += [f"--{flag}", str(getattr(options, flag))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(number) for number in done.stdout.split()[-5:]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=4, help="of speech")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        time_here(options.one, options.minutes, options.threads, options.device)
        return
    announce((options.rounds + 0.5) * len(CONTENDERS) * (15 + 6 * options.minutes))
    results = {name: [] for name in CONTENDERS}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        for name in CONTENDERS:
            results[name].append(time_one(name, options))
    audio_s = options.minutes * 60
    unit = [numbers[0] for numbers in results[CONTENDERS[0]]]
    print(f"{options.minutes:g} minutes of speech, {options.device}, {options.threads} threads\n")
    print("| | time, a clip at a time = 1 (median, min to max) | s of audio a second | peak MB | waiting |")
    print("|---|---|---:|---:|---:|")
    for name, runs in results.items():
        ratios = [numbers[0] / base for numbers, base in zip(runs, unit, strict=True)]
        seconds = statistics.median(numbers[0] for numbers in runs)
        waited = statistics.median(numbers[2] / numbers[0] for numbers in runs)
        peak = max(numbers[1] for numbers in runs)
        waiting = f"{waited:.1%}" if name.startswith("generate") else "–"
        print(
            f"| {name} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {audio_s / seconds:.1f} | {peak:.0f} | {waiting} |"
        )
    _, _, _, codes, differing = time_one("verify", options)
    print(f"\n{differing:.0f} of {codes:.0f} codes differ when each clip is encoded alone")


if __name__ == "__main__":
    main()
