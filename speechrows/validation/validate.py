"""Check every promise of docs/design.md on the bytes of a built folder or a Hub dataset."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.folder.layout import TOKENIZER
from speechrows.folder.layout import index_path
from speechrows.folder.rows_folder import RowsFolder
from speechrows.rows.ledger import LedgerSummary
from speechrows.text import tokenizers
from speechrows.validation.folder import NameHashes
from speechrows.validation.folder import check_card
from speechrows.validation.folder import check_ledger
from speechrows.validation.report import ValidationReport
from speechrows.validation.shard import CheckedShard
from speechrows.validation.shard import ShardOfSplit
from speechrows.validation.workers import checked
from speechrows.workers.local import LocalEngine
from speechrows.workers.work import Engine

__all__ = ["ValidationReport", "validate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Split:
    """What is to be checked of a task and split."""

    task: str
    split: str
    shards: Sequence[ShardOfSplit]

    @property
    def num_rows(self) -> int:
        """The rows that its index promises."""
        return sum(shard.entry.rows for shard in self.shards)


def validate(
    address: str | Path, allow: Iterable[str] = (), num_proc: int = 1, engine: Engine | None = None
) -> ValidationReport:
    """Check a built folder, or a Hub dataset `org/name` by range reads, row by row.

    `allow` names checks that are reported but do not fail the report ("silence", "clipping"). Shards are
    shared among `num_proc` processes, which import its script: one that asks for more than one has to guard
    its own start by `if __name__ == "__main__"`. An `engine` has them checked elsewhere. The report depends
    on neither.

    Raises:
        UsageError: nothing that speechrows built is there.
    """
    if num_proc < 1:
        raise UsageError(f"num_proc: found {num_proc}, expected at least 1")
    folder = RowsFolder.open(address)
    report = ValidationReport(address=folder.address, allowed=frozenset(allow))
    splits, ledgers = _splits(folder, report)
    rows: Counter[str] = Counter()
    seen = NameHashes()
    tokenizer = _open_tokenizer(folder, report)
    if tokenizer is None:  # rows can not be checked without
        for split in splits:
            rows[split.task] += split.num_rows
    else:
        shards = [shard for split in splits for shard in split.shards]
        results = checked(folder, tokenizer, shards, engine or LocalEngine(num_proc=num_proc))
        for split in splits:
            rows[split.task] += _take(folder, split, results, seen, report)
    _name_repeated(folder, "row_id", seen, report)
    check_ledger(folder, ledgers, rows, report)
    check_card(folder, {s.entry.path: s.entry.rows for split in splits for s in split.shards}, report)
    return report


def _splits(folder: RowsFolder, report: ValidationReport) -> tuple[list[_Split], dict[str, LedgerSummary]]:
    """What the folder's indexes say is in it, and the ledger of each task."""
    splits: list[_Split] = []
    ledgers: dict[str, LedgerSummary] = {}
    for task, split in folder.splits():
        with report.telling("index", index_path(task, split)):
            facts = folder.index_facts(task, split)
            ledgers[task] = facts.ledger
            shards: list[ShardOfSplit] = []
            first_line = 0
            for entry in facts.shards:
                shards.append(ShardOfSplit(task=task, split=split, entry=entry, first_line=first_line))
                first_line += entry.rows
            splits.append(_Split(task=task, split=split, shards=shards))
    return splits, ledgers


def _open_tokenizer(folder: RowsFolder, report: ValidationReport) -> PreTrainedTokenizerFast | None:
    with report.telling("tokenizer", TOKENIZER):
        return tokenizers.open_tokenizer(folder.tokenizer_folder())
    return None


def _take(
    folder: RowsFolder,
    split: _Split,
    results: Iterator[CheckedShard],
    seen: NameHashes,
    report: ValidationReport,
) -> int:
    """Take the results of a split's shards into the report; return the number of its rows."""
    conversations, num_rows = NameHashes(), 0
    name = f"{split.task}/{split.split}"
    with tqdm(total=split.num_rows, desc=printable(name), unit="row", disable=None) as bar:
        for shard in split.shards:
            result = next(results)
            report.add(result.report)
            seen.extend(result.row_ids)
            conversations.extend(result.conversations)
            num_rows += len(result.row_ids)
            bar.update(shard.entry.rows)
    _name_repeated(folder, "conversation_id", conversations, report)
    return num_rows


def _name_repeated(folder: RowsFolder, column: str, seen: NameHashes, report: ValidationReport) -> None:
    """Report ids that came twice: hashes are kept, names are looked up only when needed."""
    repeated = seen.repeated()
    if not repeated:
        return
    for task, split in folder.splits():
        with report.telling("index", index_path(task, split)):
            names: list[str] = folder.index(task, split, [column])[column].to_pylist()  # pyright: ignore[reportAssignmentType]
            for name in sorted({name for name in names if NameHashes.of(name) in repeated}):
                what = "unique row ids" if column == "row_id" else "conversations"
                report.fail(what, name, "comes in two places; expected it once, its rows together")
