"""A corpus in DeepDialogue's layout, its rows, and a run of train.py on them, as programs."""

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIG = "dialogues_llama3-8B"  # of the corpus' two or three, which a build names its dialogues by
ROOT = Path(__file__).parents[2]
Samples = npt.NDArray[np.floating[Any]]  # in [-1, 1]
Turns = Sequence[tuple[str, Samples]]  # text and clip of each
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}  # a tiny model gives more of them nothing to do


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
    build = [sys.executable, "-m", "speechrows.cli", "build", "deepdialogue_ttt", config]
    build += ["--data-dir", str(corpus), "--out", str(rows), "--overwrite", *flags]
    subprocess.run(build, check=True, cwd=ROOT)


def train(out: Path, *flags: str) -> dict[str, float]:
    """Run train.py anew; the last line of its metrics, which is its evaluation where it has one."""
    command = [sys.executable, str(ROOT / "train.py"), "--output-dir", str(out), "--overwrite", *flags]
    subprocess.run(command, check=True, cwd=ROOT, env=ONE_THREAD)
    return metrics(out)[-1]


def metrics(out: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
