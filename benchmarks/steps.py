"""Optimiser steps of train.py beside a plain loop of transformers, on the same rows in one run.

The plain loop is what one writes without speechrows: clips by soundfile, features padded to 30 s as Whisper's
extractor gives them, the whole encoder, its frames cut to the clip, rows padded to the longest, and
the language model's own loss, with logits of every slot. Both have the same weights, and the same rows in
each step. Weights are random. Each reading is a process of its own, torch on one thread, after some steps.

    python benchmarks/steps.py [--rounds 3] [--steps 5] [--size tiny|small]…
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent)]

from machine import announce
from machine import run

WARM, BUDGET = 2, 30.0
SIZES = {
    "tiny": {},
    "small": {"encoder": (256, 4), "lm": (512, 8)},  # widths and blocks: 32 million weights
}


def trainer_of(rows: str, size: str, *flags: str) -> Any:
    """A run of train.py that has not begun."""
    from dataclasses import replace

    from transformers import LlamaConfig
    from transformers import WhisperConfig

    import train
    from speechrows.model.presets import PRESETS

    if parts := SIZES[size]:
        (width, blocks), (wide, high) = parts["encoder"], parts["lm"]
        encoder = WhisperConfig(
            d_model=width, encoder_layers=blocks, encoder_attention_heads=4, encoder_ffn_dim=4 * width,
            decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=64, vocab_size=8, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        lm = LlamaConfig(
            hidden_size=wide, intermediate_size=3 * wide, num_hidden_layers=high, num_attention_heads=8,
            num_key_value_heads=4, vocab_size=8,
        )  # fmt: skip
        PRESETS["tiny"] = replace(PRESETS["tiny"], encoder=encoder, lm=lm)
    output = ["--output-dir", tempfile.mkdtemp(dir=Path(rows).parent)]
    data = ["--data", rows, "--config", "transcription", "--budget-seconds", str(BUDGET)]
    return train.Trainer(train.TrainConfig.parse([*data, *output, *flags]))


def ours(rows: str, size: str, *flags: str) -> Callable[[], object]:
    return trainer_of(rows, size, *flags).train_step


def plain(rows: str, size: str) -> Callable[[], object]:
    import torch
    from datasets import load_dataset
    from torch.nn.utils.rnn import pad_sequence
    from transformers import WhisperFeatureExtractor

    trainer = trainer_of(rows, size)
    model: Any = trainer.model.speech_lm
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    extract = WhisperFeatureExtractor(feature_size=80)
    data: Any = load_dataset(rows, "transcription", split="train", streaming=True)
    by_id = {row["row_id"]: row for row in data.decode(False)}
    order = iter([batch.row_ids for batch in islice(trainer.loader.endless(), 1000)])

    def step() -> None:
        chosen = [by_id[row_id] for row_id in next(order)]
        features = extract(
            [heard(row["audio"]["bytes"]) for row in chosen], sampling_rate=16_000, return_tensors="pt"
        ).input_features
        frames = model.encoder.model(features).last_hidden_state
        embeds = []
        for row, states in zip(chosen, frames, strict=True):
            ids = torch.tensor(row["input_ids"])
            is_audio = ids == model.audio_token_id
            tokens = int(is_audio.sum())
            audio = model.projector(states[: tokens * model.frames_per_token].reshape(tokens, -1))
            embeds.append(model.lm.get_input_embeddings()(ids).masked_scatter(is_audio[:, None], audio))
        labels = [torch.tensor(row["labels"]) for row in chosen]
        real = [torch.ones(len(label), dtype=torch.int64) for label in labels]
        loss = model.lm(
            inputs_embeds=pad_sequence(embeds, batch_first=True),
            attention_mask=pad_sequence(real, batch_first=True),
            labels=pad_sequence(labels, batch_first=True, padding_value=-100),
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def heard(clip: bytes) -> Any:
    """The samples of a clip at 16 kHz."""
    import librosa
    import soundfile

    samples, rate = soundfile.read(io.BytesIO(clip), dtype="float32")
    return librosa.resample(samples, orig_sr=rate, target_sr=16_000)


CONTENDERS: dict[str, Callable[[str, str], Callable[[], object]]] = {
    "plain loop": plain,
    "train.py": ours,
    "train.py --gradient-checkpointing": lambda rows, size: ours(rows, size, "--gradient-checkpointing"),
}


def measure(name: str, rows: str, size: str, steps: int) -> None:
    """Print the seconds of a step as JSON."""
    step = CONTENDERS[name](rows, size)
    for _ in range(WARM):
        step()
    began = time.process_time()
    for _ in range(steps):
        step()
    print(json.dumps({"step_s": (time.process_time() - began) / steps}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="of a reading, after those that warm it")
    parser.add_argument("--size", action="append", choices=[*SIZES])
    parser.add_argument("--measure", nargs=3, metavar=("NAME", "ROWS", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure, options.steps)
        return
    sizes = options.size or [*SIZES]
    announce(60 * options.rounds * len(sizes))
    with tempfile.TemporaryDirectory() as work:
        rows = f"{work}/rows"
        build(rows)
        print("| | steps a CPU second (median, min to max) | of the plain loop's |\n|---|---:|---:|")
        for size in sizes:
            rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
            for _ in range(options.rounds):
                for name in CONTENDERS:
                    command = [sys.executable, str(HERE / "steps.py"), "--steps", str(options.steps)]
                    rates[name].append(1 / run([*command, "--measure", name, rows, size])["step_s"])
            base = statistics.median(rates["plain loop"])
            for name, values in rates.items():
                middle, spread = statistics.median(values), f"{min(values):.3g} to {max(values):.3g}"
                print(f"| {size}: {name} | {middle:.3g} ({spread}) | {middle / base:.2f} |", flush=True)


def build(rows: str) -> None:
    """Build rows of the bundled speech."""
    from toys.building import build_rows
    from toys.samples import XTTS

    build_rows(XTTS, Path(rows), "transcription")


if __name__ == "__main__":
    main()
