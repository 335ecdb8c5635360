"""What a run tells of its progress: sizes, speed, and how long it goes on."""

import time
from collections.abc import Generator
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import timedelta

from torch import nn


class Progress:
    """The time that a run takes, and what it has done since its last report."""

    def __init__(self, step: int) -> None:
        self._began = self._reported = time.perf_counter()
        self._step, self._waited_s, self.audio_s = step, 0.0, 0.0

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Count the time of what is done in here as waiting for rows."""
        began = time.perf_counter()
        yield
        self._waited_s += time.perf_counter() - began

    def speed(self, step: int, audio_s: float) -> dict[str, float]:
        """The speed from the last report to `step`, with the seconds of audio of all ranks; count afresh."""
        now = time.perf_counter()
        wall_s = now - self._reported
        speed = {"hours_per_hour": audio_s / wall_s, "waiting": self._waited_s / wall_s}
        speed["steps_per_second"] = (step - self._step) / wall_s
        self._reported, self._step, self._waited_s, self.audio_s = now, step, 0.0, 0.0
        return speed

    def taken(self) -> str:
        """The time since the run began, as H:MM:SS."""
        return _clock(time.perf_counter() - self._began)


def sizes(model: nn.Module) -> str:
    """How many parameters a model has, and how many of them are trained, in words."""
    weights = [*model.parameters()]
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    return f"{trained:,} of {sum(weight.numel() for weight in weights):,} parameters"


def line(report: Mapping[str, float], left: int = 0) -> str:
    """The values of a report, and of a speed's the time that the steps that are left take.

    An evaluation's values of single codebooks, and those of a mix's sources, are left out: they are many.
    """
    shown = [name for name in report if "/codebook_" not in name and not name.startswith("source/")]
    values = [f"{name} {report[name]:.4g}" for name in shown]
    if rate := report.get("steps_per_second"):
        values.append(f"left {_clock(left / rate)}")
    return "  ".join(values)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
