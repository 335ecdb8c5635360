"""Collation: audio seconds a second from ragged int16 to a padded batch, beside the obvious code.

A micro-batch of noise in clips of like length, as mode `bucket` gives them, 12.5 audio tokens a second
and 25 tokens of text each. Ours are whole batches, tokens and masks too; references are audio alone,
clip by clip: float tensors padded by `pad_sequence`, soxr (VHQ) or torchaudio where it is installed,
WhisperFeatureExtractor. The limit is to write the samples as float32 into memory that is there, by numpy in
one call. Rounds take turns, medians are told. On a GPU ours run there, the references where they can, on the
CPU.

    python benchmarks/collate.py [--seconds 400] [--clip 5] [--rounds 7] [--threads 1] [--cpu-time]
                                 [--device cuda]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import soxr
import torch
from machine import announce
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import WhisperFeatureExtractor

from speechrows.codec import num_audio_tokens
from speechrows.loader.collate.augment import Augment
from speechrows.loader.collate.collator import Collator
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.ragged import Ragged

TOKENS = Fraction(25, 2)
TEXT = 25
ALL = Augment(
    speed_percent=(100, 105, 110), gain_db=(-6, 6), snr_db=(10, 30), time_masks=2, frequency_masks=2
)


class Counted(Collator):
    """A collator that knows how many bytes it sent."""

    num_bytes = 0

    def _moved(self, values: Tensor) -> Tensor:
        type(self).num_bytes += values.nbytes
        return super()._moved(values)

    def _copied(self, samples: Tensor):
        type(self).num_bytes += samples.nbytes
        return super()._copied(samples)


def micro_batch(seconds: float, clip: float, rate: int, device: str) -> Ragged:
    rng = np.random.default_rng(0)
    count = max(1, int(seconds / clip))
    lengths = (rng.uniform(0.98, 1, count) * clip * rate).astype(np.int32)
    samples = torch.from_numpy(rng.integers(-3000, 3000, int(lengths.sum()), np.int16))
    placeholders = np.array([num_audio_tokens(int(n), rate, TOKENS) for n in lengths], np.int32)
    zeros, numbers = np.zeros(count, np.int32), np.arange(count, dtype=np.int32)
    ids = np.ones(int(placeholders.sum()) + count * TEXT, np.int32)
    micro_batch = MicroBatch(
        step=0, number=0, num_sequences=count, rows=numbers, sequence=numbers, start=zeros, position=zeros
    )
    return Ragged(
        micro_batch=micro_batch,
        row_ids=tuple(f"bench/train/noise/{i}/0/transcription" for i in range(count)),
        tasks=("transcription",) * count,
        turn_numbers=zeros,
        num_tokens=placeholders + TEXT,
        input_ids=ids,
        labels=ids,
        samples=(samples.pin_memory() if device != "cpu" else samples).numpy(),
        num_samples=lengths,
        sampling_rates=zeros + rate,
        num_audio_tokens=placeholders,
        clip_rows=numbers,
        codec=None,
        codes=np.empty(0, np.int16),
        num_frames=zeros[:0],
        code_rows=zeros[:0],
    )


def waves(ragged: Ragged) -> list[np.ndarray]:
    """Float clips, one by one."""
    parts = np.split(ragged.samples, np.cumsum(ragged.num_samples)[:-1])
    return [part.astype(np.float32) / 32768 for part in parts]


def padded(ragged: Ragged) -> Tensor:
    return pad_sequence([torch.from_numpy(wave) for wave in waves(ragged)], batch_first=True)


def at_rate(ragged: Ragged, new: int) -> list[np.ndarray]:
    old = int(ragged.sampling_rates[0])
    try:
        from torchaudio.functional import resample
    except ImportError:
        return [soxr.resample(wave, old, new, quality="VHQ") for wave in waves(ragged)]
    return [resample(torch.from_numpy(wave), old, new).numpy() for wave in waves(ragged)]


def resampled_padded(ragged: Ragged) -> Tensor:
    return pad_sequence([torch.from_numpy(wave) for wave in at_rate(ragged, 16_000)], batch_first=True)


def extracted(ragged: Ragged, num_mels: int) -> Tensor:
    extractor = WhisperFeatureExtractor(feature_size=num_mels)
    features = extractor(waves(ragged), sampling_rate=16_000, padding="longest", truncation=False,
                     pad_to_multiple_of=1280, return_tensors="pt")  # fmt: skip
    return features["input_features"]


CASES: dict[str, tuple[int, dict, Callable[[Ragged], Tensor] | None]] = {
    "padded, 16 kHz": (16_000, {}, padded),
    "padded, 24 to 16 kHz": (24_000, {}, resampled_padded),
    "padded, 44.1 to 16 kHz": (44_100, {}, resampled_padded),
    "padded, 8 to 16 kHz": (8_000, {}, resampled_padded),
    "log-mel 80": (16_000, {"mel": 80}, lambda ragged: extracted(ragged, 80)),
    "log-mel 128": (16_000, {"mel": 128}, lambda ragged: extracted(ragged, 128)),
    "log-mel 80, augmented": (16_000, {"mel": 80, "augment": ALL}, None),
}


def took(run: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    start = clock()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def measured(arguments: argparse.Namespace, case: str) -> str:
    rate, options, reference = CASES[case]
    device = arguments.device
    ragged = micro_batch(arguments.seconds, arguments.clip, rate, device)
    seconds = float((ragged.num_samples / rate).sum())
    collate = Counted(
        device=device, pad_id=0, plan_options=PlanOptions(budget_seconds=arguments.seconds),
        audio_tokens_per_second=TOKENS, **options,
    )  # fmt: skip
    collate(ragged, 0)
    Counted.num_bytes = 0
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    ours, theirs, limit = [], [], []
    room = np.zeros(len(ragged.samples), np.float32)
    for _ in range(arguments.rounds):
        limit.append(seconds / took(lambda: np.copyto(room, ragged.samples), "cpu", clock))
        ours.append(seconds / took(lambda: collate(ragged, 0), device, clock))
        if reference is not None:
            theirs.append(seconds / took(lambda: reference(ragged), "cpu", clock))
    sent = Counted.num_bytes / arguments.rounds / seconds
    spread = f"{statistics.median(ours):,.0f} ({min(ours):,.0f} to {max(ours):,.0f})"
    share = f"{statistics.median(ours) / statistics.median(limit):.2f}"
    if not theirs:
        return f"| {case} | {spread} | – | – | {share} | {sent:,.0f} |"
    ratio = statistics.median(ours) / statistics.median(theirs)
    return f"| {case} | {spread} | {statistics.median(theirs):,.0f} | {ratio:.1f} | {share} | {sent:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=400, help="of audio in the micro-batch")
    parser.add_argument("--clip", type=float, default=5, help="seconds of the longest clip")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--cpu-time", action="store_true", help="count it, of all threads: others are busy here"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    announce(10 + 1.5 * arguments.rounds * arguments.seconds / 400)
    print(f"audio seconds a second, on {arguments.device}, {arguments.threads} threads on the CPU\n")
    print(
        "| | ours (min to max) | reference | ratio | of the limit | bytes sent an audio second |\n"
        "|---|---|---:|---:|---:|---:|"
    )
    for case in CASES:
        print(measured(arguments, case), flush=True)


if __name__ == "__main__":
    main()
