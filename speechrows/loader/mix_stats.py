"""What the epochs of a mix hold, before training: source by source, and stage by stage."""

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechrows.loader.mix_rows import MixRows
from speechrows.loader.mix_rows import units_of
from speechrows.loader.opened_mix import OpenedMix
from speechrows.loader.plan.values import Mode
from speechrows.loader.plan.values import PlanOptions
from speechrows.mix.shares import TICKS_PER_HOUR
from speechrows.mix.values import Mix


@dataclass(frozen=True, kw_only=True)
class SourceStats:
    """What an epoch has of a source. Tokens are those before padding.

    `passes` are through its rows; `share` is of the mix, in what its shares count, else in rows. `left_out`
    are rows that `where` does not hold for, `short` what is left for the next epoch, since conversations stay
    whole: in rows, seconds or tokens, as the source counts. `fill` are its tokens by all slots of the epoch.
    """

    source: str
    rows: int
    hours: float
    tokens: int
    passes: float
    share: float
    left_out: int
    short: float
    fill: float | None


@dataclass(frozen=True, kw_only=True)
class StageStats:
    """What the first epoch of a stage holds; `epochs` is None for the last stage, which stays.

    With a context: the steps of that epoch, the share of their slots that hold no pad, and rows too long.
    """

    stage: int
    epoch: int
    epochs: int | None
    rows: int
    hours: float
    tokens: int
    sources: tuple[SourceStats, ...]
    steps: int | None = None
    fill: float | None = None
    dropped: int | None = None


def mix_stats(mix: str | Path | Mix, *, context: int | None = None, mode: Mode = "lanes") -> list[StageStats]:
    """The stages of a mix; with `context`, their first epochs are planned.

    Raises:
        UsageError: see OpenedMix.
    """
    opened = OpenedMix(mix).rendered().mix
    assert opened is not None
    first, stages = 0, list[StageStats]()
    for number, (epochs, _) in enumerate(opened.schedule.stages):
        is_last = number + 1 == len(opened.schedule.stages)
        stages.append(_stage(opened, number, first, None if is_last else epochs, context, mode))
        first += epochs
    return stages


def _stage(
    mix: MixRows, number: int, epoch: int, epochs: int | None, context: int | None, mode: Mode
) -> StageStats:
    of_plan: dict[str, Any] = {}
    slots = None
    if context is not None:
        multiple = mix.index.pad_to_multiple_of
        options = PlanOptions(mode=mode, context=context, too_long="drop", pad_to_multiple_of=multiple)
        plan = mix.plan(options, epoch)
        of_plan = {"steps": len(plan), "fill": plan.fill, "dropped": plan.num_dropped}
        slots = plan.num_total
    sums = _sums(mix, epoch)
    sources = tuple(_source(mix, number, epoch, sums, slots) for number in range(len(mix.sources)))
    rows, ticks, tokens = (int(values.sum()) for values in sums)
    return StageStats(
        stage=number, epoch=epoch, epochs=epochs, rows=rows, hours=ticks / TICKS_PER_HOUR, tokens=tokens,
        sources=sources, **of_plan,
    )  # fmt: skip


def _sums(mix: MixRows, epoch: int) -> Any:
    """Rows, microseconds and tokens of each source in an epoch, int64 [3, sources]."""
    chosen = mix.epoch(epoch)
    sums = np.zeros((3, len(mix.sources)), np.int64)
    for number in range(len(mix.sources)):
        rows = chosen.rows[chosen.edges[number] : chosen.edges[number + 1]]
        units = ("samples", "hours", "tokens")
        sums[:, number] = [int(units_of(mix.index, rows, unit).sum()) for unit in units]
    return sums


def _source(mix: MixRows, number: int, epoch: int, sums: Any, slots: int | None) -> SourceStats:
    source, unit = mix.sources[number], mix.schedule.units[number]
    rows, ticks, tokens = sums[:, number].tolist()
    kinds = {"samples": 0, "hours": 1, "tokens": 2}
    shared = sums[kinds[unit if len({*mix.schedule.units}) == 1 else "samples"]]
    short = mix.schedule.before(epoch + 1)[number] - _had(mix, number, epoch + 1)
    return SourceStats(
        source=source.name,
        rows=rows,
        hours=ticks / TICKS_PER_HOUR,
        tokens=tokens,
        passes=sums[kinds[unit], number] / source.size.of(unit),
        share=float(shared[number] / max(1, shared.sum())),
        left_out=source.num_left_out,
        short=short / 1e6 if unit == "hours" else short,
        fill=None if slots is None else tokens / max(1, slots),
    )


def _had(mix: MixRows, number: int, epochs: int) -> int:
    """How much of a source all epochs together have had: whole passes, and what the last one has."""
    source, unit = mix.sources[number], mix.schedule.units[number]
    end, size = mix.schedule.before(epochs)[number], source.size.of(unit)
    passes = end // size
    rest = mix.stretch(number, passes * size, end)
    return passes * size + sum(int(units_of(mix.index, rows, unit).sum()) for rows in rest)


def to_json(stages: Sequence[StageStats]) -> list[dict[str, Any]]:
    """The stages as plain values."""
    return [asdict(stage) for stage in stages]


def to_text(stages: Sequence[StageStats]) -> str:
    """The stages as tables."""
    lines = list[str]()
    width = max(len(source.source) for stage in stages for source in stage.sources) + 2
    for stage in stages:
        last = "on" if stage.epochs is None else f"to {stage.epoch + stage.epochs - 1}"
        lines += ["", f"epochs {stage.epoch} {last}:"] if len(stages) > 1 else []
        head = f"{'source':<{width}}{'rows':>12}{'hours':>11}{'tokens':>15}{'passes':>9}{'share':>8}"
        head += f"{'left out':>11}"
        lines.append(head + (f"{'fill':>8}" if stage.fill is not None else ""))
        for source in stage.sources:
            fill = "" if source.fill is None else f"{source.fill:>8.1%}"
            lines.append(
                f"{source.source:<{width}}{source.rows:>12,}{source.hours:>11,.2f}{source.tokens:>15,}"
                f"{source.passes:>9.2f}{source.share:>8.1%}{source.left_out:>11,}{fill}"
            )
        fill = "" if stage.fill is None else f"{'':>28}{stage.fill:>8.1%}"
        lines.append(f"{'all':<{width}}{stage.rows:>12,}{stage.hours:>11,.2f}{stage.tokens:>15,}{fill}")
        if stage.steps is not None:
            lines.append(f"{stage.steps:,} steps of one sequence; {stage.dropped:,} rows are too long")
        lines += [_short(stage)] if any(source.short for source in stage.sources) else []
    return "\n".join(lines).strip("\n")


def _short(stage: StageStats) -> str:
    """What comes an epoch later, in words."""
    late = [f"{source.source} {source.short:,.6g}" for source in stage.sources if source.short]
    return f"left for the next epoch, since what is whole stays whole: {', '.join(late)}"
