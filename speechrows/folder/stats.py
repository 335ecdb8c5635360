"""Sums of a built folder: hours, turns, tokens, and the conversations that each curriculum stage adds.

Reads the index alone, a few small columns, from disk or the Hub.
"""

from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from speechrows.folder.rows_folder import RowsFolder
from speechrows.rows.curriculum import STAGE_LIMITS
from speechrows.rows.curriculum import configs_of
from speechrows.rows.curriculum import task_of

_COLUMNS = [
    "conversation_id",
    "conversation_tokens",
    "num_tokens",
    "padded_tokens",
    "num_samples",
    "sampling_rate",
]


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Sums of a config and split. Tokens are padded ones, a conversation; hours are of `audio`."""

    config: str
    split: str
    conversations: int
    turns: int
    hours: float
    tokens_mean: float
    tokens_p50: int
    tokens_p95: int
    tokens_max: int
    padding: float  # share of all tokens that are pads
    adds: int | None  # conversations that the stage before does not hold; None for other configs


def stats(address: str | Path) -> list[Stats]:
    """Sums of every config and split of a built folder, or of a Hub dataset `org/name`.

    Raises:
        UsageError: nothing that speechrows built is there.
    """
    folder = RowsFolder.open(address)
    sums: list[Stats] = []
    for task, split in folder.splits():
        table = folder.index(task, split, _COLUMNS)
        before = 0
        for config in configs_of(task_of(task)):
            limit = STAGE_LIMITS.get(config)
            if limit is None:
                sums.append(_sum(config, split, table, None))
                continue
            stage = table.filter(pc.less_equal(table["conversation_tokens"], pa.scalar(limit, pa.int32())))
            sums.append(_sum(config, split, stage, before))
            before = sums[-1].conversations
    return sums


def _sum(config: str, split: str, table: pa.Table, before: int | None) -> Stats:
    columns = {name: table[name].to_numpy() for name in _COLUMNS[1:]}
    seconds = (columns["num_samples"] / columns["sampling_rate"]).sum()
    # Conversations are contiguous: one begins wherever the id changes.
    ids = table["conversation_id"].combine_chunks().dictionary_encode()
    codes = ids.indices.to_numpy()
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    tokens = columns["conversation_tokens"][starts]
    padded = int(columns["padded_tokens"].sum())
    quantile = np.quantile(tokens, [0.5, 0.95]) if len(tokens) else (0, 0)
    return Stats(
        config=config,
        split=split,
        conversations=len(starts),
        turns=len(table),
        hours=float(seconds) / 3600,
        tokens_mean=float(tokens.mean()) if len(tokens) else 0.0,
        tokens_p50=int(quantile[0]),
        tokens_p95=int(quantile[1]),
        tokens_max=int(tokens.max(initial=0)),
        padding=1 - int(columns["num_tokens"].sum()) / padded if padded else 0.0,
        adds=None if before is None else len(starts) - before,
    )


def to_json(sums: list[Stats]) -> list[dict[str, Any]]:
    """The sums as plain values."""
    return [asdict(stat) for stat in sums]


def _justify(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)  # names to the left, numbers to the right


def to_text(address: str, sums: list[Stats]) -> str:
    """The sums as a table, what the stages add in words, and the ledgers."""
    head = ("config", "split", "conversations", "turns", "hours", "tokens: mean", "p50", "p95", "max", "pads")
    lines = [
        (
            stat.config, stat.split, f"{stat.conversations:,}", f"{stat.turns:,}", f"{stat.hours:.2f}",
            f"{stat.tokens_mean:,.0f}", f"{stat.tokens_p50:,}", f"{stat.tokens_p95:,}",
            f"{stat.tokens_max:,}", f"{stat.padding:.0%}",
        )
        for stat in sums
    ]  # fmt: skip
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    text = ["  ".join(map(_justify, line, widths, range(len(head)))) for line in [head, *lines]]
    for split in sorted({stat.split for stat in sums}):
        stages = [stat for stat in sums if stat.split == split and stat.config in list(STAGE_LIMITS)[1:]]
        idle = [stat.config for stat in stages if stat.adds == 0]
        if idle:
            why = "no conversation lies between their limits and those of the stages before"
            text += ["", f"{split}: {', '.join(idle)} add nothing: {why}."]
    folder = RowsFolder.open(address)
    for task in sorted({task for task, _ in folder.splits()}):
        split = next(s for t, s in folder.splits() if t == task)
        text += ["", f"{task}, what became of the corpus' items:"]
        text.append(folder.index_facts(task, split).ledger.describe())
    return "\n".join(text)
