"""A run's output folder: checkpoints, each whole, and metrics.jsonl, each step once.

A checkpoint is written under the name `….partial`, brought to disk, and then renamed; one that is removed is
renamed back first. So whenever a run is killed, what has the name of a checkpoint is whole.
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from speechrows.errors import FullDiskError
from speechrows.errors import UsageError
from speechrows.model import checkpoint
from speechrows.storage.disk import NO_ROOM
from speechrows.storage.disk import sync

CHECKPOINT = "checkpoint-" + 8 * "[0-9]"  # with the number of steps that were done
PARTIAL = (f"{CHECKPOINT}.partial", "best*.partial")  # one that is being written, or removed
TRACKED = "speechrows"  # where a tracker writes, by its project's name


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The output folder of a run. Rank 0 alone calls what writes, such as `begin` and `log`."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def metrics(self) -> Path:
        """The file of what was logged: a line of JSON a report."""
        return self.path / "metrics.jsonl"

    @property
    def best(self) -> Path:
        """The checkpoint that is kept because it is the best."""
        return self.path / "best"

    def checkpoints(self) -> list[Path]:
        """The checkpoints, the latest last."""
        return sorted(self.path.glob(CHECKPOINT))

    def partial(self, step: int) -> Path:
        """The folder in which the checkpoint of a step is written."""
        return self.path / f"checkpoint-{step:08d}.partial"

    def claim(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or refuse one that a run has used, unless that is gone on from or overwritten.

        Raises:
            UsageError: it is used, or there is nothing whole to resume from, or it can not be made.
        """
        if resume and overwrite:
            raise UsageError("--resume, --overwrite: found both, expected one of them")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--output-dir {self.path}: can not be made ({error.strerror}); give another folder"
            ) from error
        if resume:
            self.latest()
        elif not overwrite and (self.checkpoints() or self.metrics.exists()):
            anew = ", or begin anew with --overwrite" if self.checkpoints() else ""
            raise UsageError(
                f"--output-dir {self.path}: holds a run. {self.way_on()}{anew}, which removes that run; or "
                "give another folder"
            )

    def latest(self) -> Path:
        """The checkpoint to go on from.

        Raises:
            UsageError: there is none, or it is damaged; it names the latest that is whole.
        """
        if not self.checkpoints():
            raise UsageError(
                f"--resume: found no checkpoint in {self.path}, expected one. Begin without --resume, or, "
                "where a run has stopped before its first checkpoint, with --overwrite"
            )
        *older, latest = self.checkpoints()
        if damage := checkpoint.damage(latest):
            whole = next((path for path in reversed(older) if not checkpoint.damage(path)), None)
            raise UsageError(
                f"{latest}: {damage}. "
                + (
                    f"{whole.name} is whole: delete {latest.name}, and --resume goes on from there"
                    if whole
                    else "No checkpoint beside it is whole: begin anew with --overwrite"
                )
            )
        return latest

    def way_on(self) -> str:
        """What is kept, and the flag that goes on from it."""
        if checkpoints := self.checkpoints():
            return f"{checkpoints[-1]} is kept: go on from it with --resume"
        return "No checkpoint is saved yet to --resume from: begin anew with --overwrite"

    @contextmanager
    def telling_what_is_kept(self, step: Callable[[], int]) -> Generator[None]:
        """Tell what is kept, and how to go on, where a full disk or Ctrl-C stops a run after `step()` steps.

        Raises:
            FullDiskError: there was no room to write.
            KeyboardInterrupt: with that as its text.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"stopped after step {step()}. {self.way_on()}") from error
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise FullDiskError(
                f"{error.filename or self.path}: found no room to write after step {step()} "
                f"({error.strerror}). Make room, or raise the quota. {self.way_on()}"
            ) from error

    def begin(self, step: int | None) -> None:
        """Remove what a run has written: all of it, or where it goes on from `step` what came after that."""
        self.tidy()
        if step is not None:
            self._cut_metrics(step)
            return
        for folder in [*self.checkpoints(), *self.path.glob(self.best.name)]:
            self._remove(folder)
        self.metrics.unlink(missing_ok=True)
        tracked = self.path / TRACKED
        for pattern in ("events.out.tfevents.*", "[0-9]*/events.out.tfevents.*", "[0-9]*/hparams.yml"):
            for file in tracked.glob(pattern):
                file.unlink()
        for folder in [*tracked.glob("[0-9]*"), tracked]:
            with suppress(OSError):  # there is none, or it holds what no run wrote
                folder.rmdir()

    def tidy(self) -> None:
        """Remove what is left of what was being written or removed."""
        for folder in chain.from_iterable(map(self.path.glob, PARTIAL)):
            shutil.rmtree(folder, ignore_errors=True)
        self.metrics.with_suffix(".partial").unlink(missing_ok=True)

    def publish(self, partial: Path, keep: int) -> None:
        """Give a checkpoint that is whole its name; then remove all but the latest `keep`."""
        sync(partial)
        partial.rename(partial.with_suffix(""))
        sync(self.path)
        for old in self.checkpoints()[:-keep]:
            self._remove(old)

    def keep_best(self, saved: Path) -> None:
        """Keep a checkpoint as the best one too, by links to its files: it stays when that goes."""
        new, old = self.best.with_suffix(".partial"), self.best.with_suffix(".old.partial")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(saved, new, copy_function=_link)
        sync(new)
        if self.best.exists():
            self.best.rename(old)
        new.rename(self.best)
        sync(self.path)
        shutil.rmtree(old, ignore_errors=True)

    def reports(self, step: float = sys.maxsize) -> Iterator[Mapping[str, Any]]:
        """What was logged, up to a step, the earliest first."""
        return map(json.loads, self._lines(step))

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(folder.rename(folder.with_suffix(".partial")))

    def log(self, report: Mapping[str, Any]) -> None:
        """Append a line; numbers that are not finite, which JSON has no word for, become null."""
        values = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in report.items()
        }
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def _cut_metrics(self, step: int) -> None:
        """Keep the lines of steps up to `step`: later ones are trained again, and the last may be torn."""
        if not self.metrics.exists():
            return
        cut = self.metrics.with_suffix(".partial")
        cut.write_text("".join(self._lines(step)), "utf-8")
        sync(cut)
        cut.replace(self.metrics)

    def _lines(self, step: float) -> list[str]:
        """The whole lines of metrics up to a step."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text("utf-8", errors="replace").splitlines(keepends=True)
        return [line for line in lines if _step(line) <= step]


def _link(file: str, link: str) -> None:
    """Link to a file, or copy it where the file system has no links."""
    try:
        os.link(file, link)
    except OSError:
        shutil.copyfile(file, link)


def _step(line: str) -> float:
    """The step of a line of metrics; infinity where the line is none."""
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except (ValueError, TypeError, LookupError):
        return math.inf
