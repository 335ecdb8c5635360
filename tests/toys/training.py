"""Runs of train.py, and what they log."""

import gc
import json
from pathlib import Path
from typing import Any

import train

QUICK = ["--learning-rate", "1e-3", "--warmup-steps", "2", "--log-every", "1", "--budget-seconds", "12"]
MODES = {
    "bucket": ["--budget-seconds", "12"],
    "lanes with TTT": [
        *("--mode", "lanes", "--context", "256", "--batch-size", "2", "--attention-span", "turn"),
        *("--ttt-layers", "1", "--ttt-at", "1", "--ttt-mini-batch", "16", "--unroll", "2"),
    ],
}


def run(rows: Path, out: Path, *flags: str) -> list[dict[str, Any]]:
    """A run in this process; the lines of its metrics."""
    gc.freeze()  # accelerate collects garbage after each run, and searches what there was before
    assert train.main(["--data", str(rows), "--output-dir", str(out), *QUICK, *flags]) == 0
    return metrics(out)


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]


def curve(lines: list[dict[str, Any]]) -> list[tuple[int, float, float]]:
    return [
        (entry["step"], entry["text_loss"], entry["grad_norm"]) for entry in lines if "text_loss" in entry
    ]
