"""Recall through speech, end to end: a later turn asks for the sound of turn 0, which attention can not see.

The corpus lies in DeepDialogue's layout: turn 0 is one of eight tones, and its text the tone's letter; the
turns between are a hum, whose text is a dash; the last is noise, and its text the letter of turn 0. It is
built by `speechrows build` and trained on by train.py, attention by turn. Held-out conversations are read
in lanes, with the states that lanes carry, and with states that are reset at each turn.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learn import corpus
from learn import tones
from learn.picture import Chart

import train as trainer

SECONDS = 1.0  # of a clip
DISTANCES = (1, 2, 4, 8)  # turns from the tone to the question
SLOTS = 64  # of a turn


def conversations(number: int, distances: tuple[int, ...]) -> Iterator[corpus.Turns]:
    """A tone in turn 0, hums, and noise alone in the turn that asks, each with its text."""
    generator = np.random.default_rng(0)
    for i in range(number):
        letter = tones.LETTERS[generator.integers(len(tones.LETTERS))]
        hums = distances[i % len(distances)] - 1
        yield [
            (letter, tones.tone(letter, SECONDS, generator)),
            *[("-", tones.hum(SECONDS, generator)) for _ in range(hums)],
            (letter, tones.noise(SECONDS, generator)),
        ]


def flags_of(rows: Path, *, layers: int, steps: int, distances: tuple[int, ...]) -> list[str]:
    """Of train.py: a step has about 64 turns, and a lane the longest conversation."""
    context = SLOTS * (1 + max(distances))
    return [
        *("--data", str(rows), "--config", "ttt", "--mode", "lanes"),
        *("--context", str(context), "--batch-size", str(64 * SLOTS // context), "--preset", "tiny"),
        *("--attention-span", "turn", "--ttt-layers", str(layers), "--ttt-mini-batch", "16"),
        *("--learning-rate", "1e-3", "--warmup-steps", "20", "--steps", str(steps), "--log-every", "50"),
        *("--schedule", "constant_with_warmup"),
    ]


def train(out: Path, flags: list[str]) -> Any:
    """Run train.py, and open what it saved."""
    corpus.train(out, *flags)
    run = trainer.Trainer(trainer.TrainConfig.parse([*flags, "--output-dir", str(out), "--resume"]))
    run.resume(run.folder.latest())
    return run


@torch.no_grad()
def accuracy(run: Any, *, is_reset: bool) -> dict[int, float]:
    """The share of questions that are answered by the letter of turn 0, by the distance in turns."""
    answers: dict[int, list[bool]] = defaultdict(list)
    loader = run.rows(run.config.data, "ttt", "validation")
    lanes, model = run.lanes.afresh(), run.model.eval()
    for batch in loader:
        reset = batch.reset.clone()
        for sequence, start, _ in batch.row_spans.tolist():
            reset[sequence, start] |= is_reset
        output = model(replace(batch, reset=reset), lanes.states(batch)).text
        lanes.keep(batch, output.states)
        right = (model.speech_lm.logits(output.before).argmax(-1) == output.targets).tolist()
        at = 0
        for row_id, turn, (sequence, start, stop) in zip(
            batch.row_ids, batch.turn_numbers, batch.row_spans.tolist(), strict=True
        ):
            tokens = int((batch.labels[sequence, start:stop] >= 0).sum())
            if turn > 0 and turn == int(row_id.split("/")[-3].rsplit("_", 1)[1]) - 1:  # the last of its turns
                answers[turn].append(all(right[at : at + tokens]))
            at += tokens
    return {distance: sum(of_it) / len(of_it) for distance, of_it in sorted(answers.items())}


def run(*, quick: bool, work: Path) -> dict[str, Any]:
    """Accuracy with the states that lanes carry, with states that are reset, and without a layer."""
    work, distances = work / "recall-speech", (1,) if quick else DISTANCES
    dialogues, steps = (480, 200) if quick else (1_200, 600)
    corpus.write_corpus(work / "corpus", conversations(dialogues, distances), tones.RATE)
    corpus.build(work / "corpus", work / "rows", "ttt", "--validation-fraction", "0.15")
    figures: dict[str, Any] = {"chance": 1 / len(tones.LETTERS), "steps": steps}
    for layers in (1,) if quick else (1, 0):
        started = time.perf_counter()
        flags = flags_of(work / "rows", layers=layers, steps=steps, distances=distances)
        trained = train(work / f"run-{layers}", flags)
        seconds = time.perf_counter() - started
        for name in ("carried", "reset") if layers else ("no layer",):
            figures[name] = {"accuracy": accuracy(trained, is_reset=name == "reset"), "seconds": seconds}
    print(f"\nheld-out conversations; chance: {figures['chance']:.2f}\n")
    print(f"| state | {' | '.join(f'{d} turns' for d in distances)} |\n|---|{'---:|' * len(distances)}")
    for name in [name for name in ("carried", "reset", "no layer") if name in figures]:
        shares = figures[name]["accuracy"].values()
        print(f"| {name} | {' | '.join(f'{share:.2f}' for share in shares)} |")
    return figures


def chart(figures: dict[str, Any]) -> Chart:
    """Accuracy by distance."""
    lines = {name: figures[name]["accuracy"] for name in ("carried", "reset", "no layer") if name in figures}
    places = [*lines["carried"]]
    return Chart(
        title="A later turn asks for the sound of turn 0: held-out conversations answered rightly",
        across="turns from the sound to the question",
        places=places,
        lines={name: [*shares.values()] for name, shares in lines.items()}
        | {"chance": [figures["chance"]] * len(places)},
        most=1.0,
    )
