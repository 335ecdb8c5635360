"""A corpus in DeepDialogue's layout, its rows, and a run of train.py on them."""

import json
import shutil
import wave
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import train as trainer
from speechrows import cli

CONFIG = "dialogues_llama3-8B"  # of the corpus' two or three, which a build names its dialogues by
Samples = npt.NDArray[np.floating[Any]]  # in [-1, 1]
Turns = Sequence[tuple[str, Samples]]  # text and clip of each


def write_corpus(folder: Path, dialogues: Iterable[Turns], rate: int) -> None:
    """Write a corpus anew, clips at `rate` Hz; dialogue i is `toy_i_<its number of turns>`."""
    shutil.rmtree(folder, ignore_errors=True)
    made_by = {"domain": "toy", "timestamp": "2025-03-19 03:53:00", "model1": "toy", "model2": "toy"}
    for i, turns in enumerate(dialogues):
        stem = folder / "data" / CONFIG / f"toy_{i}_{len(turns)}"
        (stem / "segments").mkdir(parents=True)
        lines: list[dict[str, str]] = []
        for number, (text, samples) in enumerate(turns):
            speaker = f"LLM{1 + number % 2}"
            lines.append({"speaker": speaker, "text": text, "emotion": "neutral"})
            _write_clip(stem / f"segments/{number + 1:03}_{speaker}_neutral.wav", samples, rate)
        stem.with_suffix(".json").write_text(json.dumps({**made_by, "conversation": lines}), "utf-8")


def clip_id(folder: Path, dialogue: int, num_turns: int, turn: int = 0) -> str:
    """The clip_id that the rows of a corpus have for a turn."""
    return f"{folder.name}/{CONFIG}/toy_{dialogue}_{num_turns}/{turn}"


def _write_clip(path: Path, samples: Samples, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32_000).clip(-32_768, 32_767).astype("<i2").tobytes())


def build(corpus: Path, rows: Path, config: str, *flags: str) -> None:
    """`speechrows build` of a corpus, anew."""
    source = ("--data-dir", str(corpus), "--out", str(rows))
    _checked(cli.main(["build", "deepdialogue_ttt", config, *source, "--overwrite", *flags]))


def train(out: Path, *flags: str) -> dict[str, float]:
    """Run train.py anew; the last line of its metrics, which is its evaluation where it has one."""
    torch.set_num_threads(1)  # a tiny model gives more of them nothing to do
    _checked(trainer.main(["--output-dir", str(out), "--overwrite", *flags]))
    return metrics(out)[-1]


def _checked(exit_code: int) -> None:
    if exit_code:
        raise SystemExit(exit_code)  # it has told why


def metrics(out: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
