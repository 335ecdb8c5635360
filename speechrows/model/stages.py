"""Stages of training, each on conversations of some length."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

from transformers import get_scheduler

from speechrows.errors import UsageError
from speechrows.loader.loader import Loader
from speechrows.model.judging import CONFIG
from speechrows.model.opened_rows import is_named


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of training, on conversations of at most `context` tokens."""

    config: str
    context: int = 8_192
    learning_rate: float = 1e-4
    steps: int = 300  # of the optimiser
    warmup_steps: int = 20  # of rising learning rate


def stages_of(curriculum: Sequence[Stage], config: Any) -> list[Stage]:
    """All of a curriculum, or the one of a config; what a TrainConfig gives stands in place of theirs."""
    chosen = config.config or CONFIG
    stages = [stage for stage in curriculum if config.curriculum or stage.config == chosen]
    given = {name: value for name in ("context", "learning_rate") if (value := getattr(config, name))}
    given |= {name: n for name in ("steps", "warmup_steps") if (n := getattr(config, name)) is not None}
    name = "mix" if is_named(config.data) else chosen  # its sources say their configs
    return [replace(stage, **given) for stage in stages or [Stage(config=name)]]


def going_on(loader: Loader, before: Loader | None) -> Loader:
    """The loader of a stage, which goes on from that of the stage before.

    Stages may be of the same rows, and a stage may end before all of them came. So the next one begins in the
    epoch after: its rows come in another order, not the first ones once more.
    """
    if before is not None:
        loader.set_epoch(before.epoch + 1)
    return loader


def schedule_of(name: str, optimizer: Any, stage: Stage, step: int) -> Any:
    """The schedule of a stage's learning rate, by its name in transformers, at a step of the stage."""
    last = {"last_epoch": step - 1}
    schedule: Any = get_scheduler(name, optimizer, stage.warmup_steps, stage.steps, last)
    if schedule.last_epoch != step:  # transformers' constant ones begin at 0, whatever they are told
        schedule.last_epoch = step
        rates = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        schedule._last_lr = [rate * factor(step) for rate, factor in rates]
        for group, rate in zip(optimizer.param_groups, schedule._last_lr, strict=True):
            group["lr"] = rate
    return schedule


def check_flags(config: Any) -> None:
    """Check that flags of a TrainConfig do not contradict one another.

    Raises:
        UsageError: a mix says its configs and splits itself; or the mode takes rows alone, or its sequences
            do not go on from step to step.
    """
    for name, default in (("config", ""), ("split", "train")):
        if is_named(config.data) and (value := getattr(config, name)) != default:
            raise UsageError(
                f"--{name}: found {value} beside {config.data[0]}, a mix, whose sources say theirs; leave it "
                f"out, and give a set of --eval its own: NAME=PATH:CONFIG:SPLIT"
            )
    if config.mode == "bucket" and (config.curriculum or config.places):
        raise UsageError("--mode bucket: takes rows alone; --curriculum, --ttt-layers need lanes or pack")
    if config.curriculum and is_named(config.data):
        raise UsageError("--curriculum: found a mix, whose sources say their configs; expected a folder")
    for name, is_given in (("--unroll", config.unroll > 1), ("--session", config.session > 0)):
        if is_given and config.mode != "lanes":
            raise UsageError(f"{name}: found --mode {config.mode}, expected lanes, which go on")
