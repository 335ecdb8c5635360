"""Sums of a built folder: hours, turns, tokens, and the conversations that each curriculum stage adds.

Reads the index alone, a few small columns, from disk or the Hub.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from speechrows.folder.index_file import check_whole
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
_ROWS_AT_ONCE = 1 << 16


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
    return [stat for task, split in folder.splits() for stat in _stats(folder, task, split)]


def _stats(folder: RowsFolder, task: str, split: str) -> list[Stats]:
    sums = {config: _Sums(STAGE_LIMITS.get(config)) for config in configs_of(task_of(task))}
    last: str | None = None
    with folder.open_index(task, split) as index:
        # In batches: the ids of a large corpus weigh more than all that is summed of it.
        for batch in index.iter_batches(_ROWS_AT_ONCE, columns=_COLUMNS, use_threads=False):
            check_whole(batch)
            ids = batch["conversation_id"]
            changes: Any = pc.not_equal(ids[1:], ids[:-1])  # conversations are contiguous
            is_first = np.concatenate([[ids[0].as_py() != last], changes.to_numpy(zero_copy_only=False)])
            columns = {name: batch[name].to_numpy() for name in _COLUMNS[1:]}
            for each in sums.values():
                each.add(columns, is_first)
            last = ids[-1].as_py()
    finished: list[Stats] = []
    before = 0
    for config, each in sums.items():
        finished.append(each.finished(config, split, None if each.limit is None else before))
        before = 0 if each.limit is None else finished[-1].conversations
    return finished


class _Sums:
    """Sums of the rows that a config shows: of a stage, those whose conversation is within its limit."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._turns = self._tokens = self._padded = 0
        self._samples = Counter[int]()  # by rate
        self._lengths = Counter[int]()  # conversations by their tokens

    def add(self, columns: Mapping[str, npt.NDArray[Any]], is_first: npt.NDArray[np.bool_]) -> None:
        """Add rows; a conversation begins at each that `is_first`."""
        if self.limit is not None:
            is_shown = columns["conversation_tokens"] <= self.limit
            columns = {name: column[is_shown] for name, column in columns.items()}
            is_first = is_first[is_shown]
        self._turns += len(is_first)
        self._tokens += int(columns["num_tokens"].sum())
        self._padded += int(columns["padded_tokens"].sum())
        rates = columns["sampling_rate"]
        for rate in np.unique(rates).tolist():
            self._samples[rate] += int(columns["num_samples"][rates == rate].sum(dtype=np.int64))
        lengths, counts = np.unique(columns["conversation_tokens"][is_first], return_counts=True)
        self._lengths.update(dict(zip(lengths.tolist(), counts.tolist(), strict=True)))

    def finished(self, config: str, split: str, before: int | None) -> Stats:
        """The sums, of a config and split; `before` is how many conversations the stage before holds."""
        lengths = np.array(sorted(self._lengths), np.int64)
        counts = np.array([self._lengths[length] for length in lengths.tolist()], np.int64)
        number = int(counts.sum())
        p50, p95 = (_percentile(lengths, counts, percent) if number else 0 for percent in (50, 95))
        return Stats(
            config=config,
            split=split,
            conversations=number,
            turns=self._turns,
            hours=sum(samples / rate for rate, samples in sorted(self._samples.items())) / 3600,
            tokens_mean=int((lengths * counts).sum()) / number if number else 0.0,
            tokens_p50=p50,
            tokens_p95=p95,
            tokens_max=int(lengths.max(initial=0)),
            padding=1 - self._tokens / self._padded if self._padded else 0.0,
            adds=None if before is None else number - before,
        )


def _percentile(values: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], percent: int) -> int:
    """The percentile of values that come so often, between two of them in proportion, rounded down."""
    place, rest = divmod(percent * (int(counts.sum()) - 1), 100)
    below, above = values[np.searchsorted(counts.cumsum(), [place, place + (rest > 0)], side="right")]
    return int(below + rest * (above - below) // 100)


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
