"""Recall through speech, end to end: a later turn asks for the sound of turn 0, which attention can not see.

The corpus lies in DeepDialogue's layout: turn 0 is one of eight tones, and its text the tone's letter; the
turns between are a hum, whose text is a dash; the last is noise, and its text the letter of turn 0. It is
built by `speechrows build` and trained on by train.py, attention by turn. Held-out conversations are read
in lanes, with the states that lanes carry, and with states that are reset at each turn.
"""

import json
import subprocess
import sys
import time
import wave
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
LETTERS = "abcdefgh"
RATE, SECONDS = 16_000, 1.0
DISTANCES = (1, 2, 4, 8)  # turns from the tone to the question
SLOTS = 64  # of a turn


def write_corpus(folder: Path, dialogues: int, distances: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    config = folder / "data/dialogues_llama3-8B"
    for i in range(dialogues):
        letter = LETTERS[generator.integers(len(LETTERS))]
        distance = distances[i % len(distances)]
        texts = [letter, *["-"] * (distance - 1), letter]
        stem = config / f"recall_{i}_{len(texts)}"
        (stem / "segments").mkdir(parents=True)
        turns = [
            {"speaker": f"LLM{1 + number % 2}", "text": text, "emotion": "neutral"}
            for number, text in enumerate(texts)
        ]
        made_by = {"domain": "recall", "timestamp": "2025-03-19 03:53:00", "model1": "toy", "model2": "toy"}
        stem.with_suffix(".json").write_text(json.dumps({**made_by, "conversation": turns}), "utf-8")
        for number, turn in enumerate(turns):
            path = stem / "segments" / f"{number + 1:03}_{turn['speaker']}_neutral.wav"
            write_clip(path, sound(number, len(texts), letter, generator))


def sound(number: int, num_turns: int, letter: str, generator: np.random.Generator) -> np.ndarray:
    """A tone in turn 0, a hum between, and noise alone in the turn that asks."""
    samples = np.arange(int(RATE * SECONDS))
    noise = generator.standard_normal(len(samples)) * 0.02
    if number == num_turns - 1:
        return noise
    hertz = 150.0 if number else 300 * 1.35 ** LETTERS.index(letter)
    hertz *= 1 + 0.01 * generator.standard_normal()
    return noise + 0.3 * np.sin(2 * np.pi * hertz * samples / RATE + generator.uniform(0, 2 * np.pi))


def write_clip(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32_000).clip(-32_768, 32_767).astype("<i2").tobytes())


def flags_of(rows: Path, out: Path, *, layers: int, steps: int, distances: tuple[int, ...]) -> list[str]:
    """Of train.py: a step has about 64 turns, and a lane the longest conversation."""
    context = SLOTS * (1 + max(distances))
    return [
        *("--data", str(rows), "--config", "ttt", "--output-dir", str(out), "--mode", "lanes"),
        *("--context", str(context), "--batch-size", str(64 * SLOTS // context), "--preset", "tiny"),
        *("--attention-span", "turn", "--ttt-layers", str(layers), "--ttt-mini-batch", "16"),
        *("--learning-rate", "1e-3", "--warmup-steps", "20", "--steps", str(steps), "--log-every", "50"),
        *("--schedule", "constant_with_warmup"),
    ]


def train(flags: list[str]) -> Any:
    """Run train.py as a program, and open what it saved."""
    import train as trainer

    subprocess.run([sys.executable, ROOT / "train.py", *flags, "--overwrite"], check=True, cwd=ROOT)
    run = trainer.Trainer(trainer.TrainConfig.parse([*flags, "--resume"]))
    run.resume(run.folder.latest())
    return run


@torch.no_grad()
def accuracy(run: Any, *, is_reset: bool) -> dict[int, float]:
    """The share of questions that are answered by the letter of turn 0, by the distance in turns."""
    asked: dict[int, list[bool]] = defaultdict(list)
    loader = run.rows(run.config.data, "ttt", "validation")
    lanes, model = run.lanes.afresh(), run.model.eval()
    for batch in loader:
        reset = batch.reset.clone()
        for sequence, start, _ in batch.row_spans.tolist():
            reset[sequence, start] |= is_reset
        output = model(replace(batch, reset=reset), lanes.states(batch)).text
        lanes.keep(batch, output.states)
        right = (output.logits.argmax(-1) == output.targets).tolist()
        at = 0
        for row_id, turn, (sequence, start, stop) in zip(
            batch.row_ids, batch.turn_numbers, batch.row_spans.tolist(), strict=True
        ):
            tokens = int((batch.labels[sequence, start:stop] >= 0).sum())
            if turn > 0 and turn == int(row_id.split("/")[-3].rsplit("_", 1)[1]) - 1:  # the last of its turns
                asked[turn].append(all(right[at : at + tokens]))
            at += tokens
    return {distance: sum(answers) / len(answers) for distance, answers in sorted(asked.items())}


def run(*, quick: bool, work: Path) -> dict[str, dict[str, Any]]:
    """The figures: accuracy over all distances, and by distance, carried, reset, and without a layer."""
    distances = (1,) if quick else DISTANCES
    dialogues, steps = (480, 200) if quick else (1_200, 500)
    corpus, rows = (work / f"{kind}-{dialogues}-{max(distances)}" for kind in ("corpus", "rows"))
    if not corpus.exists():
        write_corpus(corpus, dialogues, distances)
    build = [sys.executable, "-m", "speechrows.cli", "build", "deepdialogue_ttt", "ttt", "--out", str(rows)]
    build += ["--data-dir", str(corpus), "--validation-fraction", "0.15"]
    subprocess.run(build, check=True, cwd=ROOT)
    torch.set_num_threads(1)
    figures: dict[str, dict[str, Any]] = {}
    for layers in (1,) if quick else (1, 0):
        started = time.perf_counter()
        flags = flags_of(rows, work / f"run-{layers}", layers=layers, steps=steps, distances=distances)
        trained = train(flags)
        seconds = time.perf_counter() - started
        for name in ("carried", "reset") if layers else ("none",):
            by_distance = accuracy(trained, is_reset=name == "reset")
            mean = sum(by_distance.values()) / len(by_distance)
            figures[name] = {"accuracy": mean, "by distance": by_distance, "steps": steps, "seconds": seconds}
    print(f"\nheld-out conversations; chance: {1 / len(LETTERS):.2f}\n")
    print(f"| state | {' | '.join(f'{d} turns' for d in distances)} |\n|---|{'---:|' * len(distances)}")
    for name, figure in figures.items():
        print(f"| {name} | {' | '.join(f'{share:.2f}' for share in figure['by distance'].values())} |")
    return figures
