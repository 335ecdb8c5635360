"""What share of a context the tokens of a built folder fill, by planning an epoch of each config."""

from dataclasses import dataclass
from typing import Literal

from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan_rows import plan_rows


@dataclass(frozen=True, kw_only=True)
class Fill:
    """An epoch of a config and split: `fill` is the share of its slots that hold no pad."""

    config: str
    split: str
    steps: int
    fill: float
    dropped: int  # rows of what is longer than the context


def fills(address: str, *, context: int, mode: Literal["pack", "lanes"]) -> list[Fill]:
    """Plan an epoch of every config and split of a built folder, or of a Hub dataset `org/name`.

    Raises:
        UsageError: nothing that speechrows built is there, or no such context.
    """
    folder = RowsFolder.open(address)
    options = PlanOptions(mode=mode, context=context, too_long="drop")
    found: list[Fill] = []
    for config, splits in folder.configs().items():
        for split in splits:
            plan = plan_epoch(plan_rows(Index.open(folder, config, split)), options)
            found.append(
                Fill(config=config, split=split, steps=len(plan), fill=plan.fill, dropped=plan.num_dropped)
            )
    return found


def to_text(found: list[Fill], context: int, mode: str) -> str:
    """A table, one line a config and split."""
    lines = [f"fill of {context} tokens, mode {mode}:"]
    lines.append(f"{'config':<18} {'split':<12} {'steps':>9} {'fill':>7} {'too long':>9}")
    lines += [
        f"{one.config:<18} {one.split:<12} {one.steps:>9,} {one.fill:>7.1%} {one.dropped:>9,}"
        for one in found
    ]
    return "\n".join(lines)
