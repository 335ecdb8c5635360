"""The share of a context that the tokens of a built folder fill: an epoch of each config is planned."""

from dataclasses import dataclass
from dataclasses import replace
from typing import Literal

import numpy as np

from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.loader.plan_rows import plan_rows


@dataclass(frozen=True, kw_only=True)
class Fill:
    """The fill of a config and split: the share of an epoch's slots that hold no pad."""

    config: str
    split: str
    steps: int
    fill: float
    dropped: int  # rows of segments longer than the context
    sessions: int | None  # of mode lanes, of at most as many tokens as the context has slots
    session_tokens_p50: int | None  # their median


def fills(address: str, *, context: int, mode: Literal["pack", "lanes"]) -> list[Fill]:
    """Plan an epoch of every config and split of a built folder, or of a Hub dataset `org/name`.

    Raises:
        UsageError: nothing that speechrows built is there, or no such context.
    """
    folder = RowsFolder.open(address)
    options = PlanOptions(mode=mode, context=context, too_long="drop")
    table: list[Fill] = []
    for config, splits in folder.configs().items():
        for split in splits:
            rows = plan_rows(Index.open(folder, config, split), sourced=mode == "lanes")
            plan = plan_epoch(rows, options)
            sessions, median = _sessions(rows, options) if mode == "lanes" else (None, None)
            table.append(
                Fill(
                    config=config, split=split, steps=len(plan), fill=plan.fill, dropped=plan.num_dropped,
                    sessions=sessions, session_tokens_p50=median,
                )
            )  # fmt: skip
    if table and all(row.dropped and not row.steps for row in table):
        raise UsageError(
            f"context: found {context}, no row of {folder.address} is so short; `speechrows stats` says how "
            "long they are"
        )
    return table


def _sessions(rows: PlanRows, options: PlanOptions) -> tuple[int, int]:
    """The number of sessions of at most as many tokens as the context, and their median tokens."""
    plan = plan_epoch(rows, replace(options, session_tokens=options.context))
    if plan.resets is None or not len(plan.resets):
        return 0, 0
    lengths = np.add.reduceat(rows.num_tokens[plan.rows], np.flatnonzero(plan.resets), dtype=np.int64)
    return len(lengths), int(np.median(lengths))


def to_text(table: list[Fill], context: int, mode: str) -> str:
    """The fills as text, a line for each config and split."""
    lines = [f"fill of {context} tokens, mode {mode}:"]
    lines.append(f"{'config':<18} {'split':<12} {'steps':>9} {'fill':>7} {'too long':>9}")
    lines += [
        f"{row.config:<18} {row.split:<12} {row.steps:>9,} {row.fill:>7.1%} {row.dropped:>9,}"
        for row in table
    ]
    if mode == "lanes":
        lines.append(f"with session_tokens={context}, sessions, and their median tokens:")
        lines += [
            f"{row.config:<18} {row.split:<12} {row.sessions:>9,} of {row.session_tokens_p50:,} tokens"
            for row in table
        ]
    return "\n".join(lines)
