"""Check every promise of docs/design.md on the bytes of a built folder or a Hub dataset."""

from collections import Counter
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.folder.layout import TOKENIZER
from speechrows.folder.layout import index_path
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.manifest import TaskFacts
from speechrows.folder.rows_folder import RowsFolder
from speechrows.rows import schema
from speechrows.rows.curriculum import task_of
from speechrows.rows.ledger import LedgerSummary
from speechrows.text import tokenizers
from speechrows.text.template import compile_template
from speechrows.types import AUDIO_TOKEN
from speechrows.validation.folder import ConversationChecks
from speechrows.validation.folder import NameHashes
from speechrows.validation.folder import check_card
from speechrows.validation.folder import check_ledger
from speechrows.validation.folder import check_places
from speechrows.validation.folder import check_shard
from speechrows.validation.folder import count_checksums
from speechrows.validation.folder import read_group
from speechrows.validation.report import ValidationReport
from speechrows.validation.row import CHECKS
from speechrows.validation.row import RowContext
from speechrows.validation.row import sound

__all__ = ["ValidationReport", "validate"]


def validate(address: str, allow: Iterable[str] = ()) -> ValidationReport:
    """Check a built folder, or a Hub dataset `org/name` by range reads, row by row.

    `allow` names checks that are reported but do not fail the report ("silence", "clipping").

    Raises:
        UsageError: nothing that speechrows built is there.
    """
    folder = RowsFolder.open(address)
    report = ValidationReport(address=address, allowed=frozenset(allow))
    rows: Counter[str] = Counter()
    shard_rows: dict[str, int] = {}
    ledgers: dict[str, LedgerSummary] = {}
    seen = NameHashes()
    tokenizer = _open_tokenizer(folder, report)
    for task, split in folder.splits():
        with _telling("index", index_path(task, split), report):
            facts = folder.index_facts(task, split)
            ledgers[task] = facts.ledger
            shard_rows |= {shard.path: shard.rows for shard in facts.shards}
            if tokenizer is None:  # rows can not be checked without
                rows[task] += sum(shard.rows for shard in facts.shards)
                continue
            for row_id in _validate_split(folder, tokenizer, task, split, facts, report):
                rows[task] += 1
                seen.add(row_id)
    _name_repeated(folder, "row_id", seen, report)
    check_ledger(folder, ledgers, rows, report)
    check_card(folder, shard_rows, report)
    return report


def _open_tokenizer(folder: RowsFolder, report: ValidationReport) -> PreTrainedTokenizerFast | None:
    with _telling("tokenizer", TOKENIZER, report):
        return tokenizers.open_tokenizer(folder.tokenizer_folder())
    return None


@contextmanager
def _telling(check: str, where: str, report: ValidationReport) -> Generator[None]:
    """Report what ends a check early; others go on."""
    try:
        yield
    except (ShortfallError, UsageError) as error:
        report.fail(check, where, str(error))


def _validate_split(
    folder: RowsFolder,
    tokenizer: PreTrainedTokenizerFast,
    task: str,
    split: str,
    facts: TaskFacts,
    report: ValidationReport,
) -> Iterator[str]:
    """Check the rows of a split; yields their ids."""
    context = RowContext(
        task=task_of(task),
        split=split,
        tokenizer=tokenizer,
        tokens_per_second=facts.audio_tokens_per_second,
        template=compile_template(tokenizer, task_of(task), facts.template_options),
        audio_id=tokenizer.get_vocab()[AUDIO_TOKEN],
        pad_id=tokenizers.pad_id(tokenizer),
        special_ids=frozenset(i for i, token in tokenizer.added_tokens_decoder.items() if token.special),
    )
    conversations = ConversationChecks(context.task, report)
    index, at = folder.index(task, split), 0
    with tqdm(total=len(index), desc=printable(f"{task}/{split}"), unit="row", disable=None) as bar:
        for shard in facts.shards:
            lines, at = index.slice(at, shard.rows), at + shard.rows
            for rows in _groups(folder, shard, lines, report):
                for row in rows:
                    if _validate_row(row, context, report):
                        conversations.follow(row, shard.path)
                    if row["row_id"] is not None:
                        yield row["row_id"]
                bar.update(len(rows))
    conversations.end()
    if at != len(index):
        report.fail("index", f"{task}/{split}", f"has {len(index)} lines, its shards {at} rows")
    _name_repeated(folder, "conversation_id", conversations.seen, report)


def _groups(
    folder: RowsFolder, shard: ShardEntry, lines: pa.Table, report: ValidationReport
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a shard, a row group in memory at a time; checks that they are those of the index."""
    path, at = shard.path, 0
    try:
        check_shard(folder, shard, report)
        with folder.open_parquet(path, verify_checksums=True) as parquet:
            columns, later = parquet.schema_arrow, schema.LATER_COLUMNS.difference(parquet.schema_arrow.names)
            expected = [field for field in schema.ARROW_SCHEMA if field.name not in later]
            if not columns.equals(pa.schema(expected)):
                differ = [
                    f.name for f in expected if f.name not in columns.names or columns.field(f.name) != f
                ]
                report.fail("required fields", path, f"columns differ from the row's: {', '.join(differ)}")
                return
            count_checksums(folder, path, parquet.metadata, report)
            for group in range(parquet.num_row_groups):
                found = read_group(folder, path, parquet, group, report).to_pylist()
                rows = [{**row, **dict.fromkeys(later)} for row in found]
                check_places(folder, path, rows, lines.slice(at, len(rows)).to_pylist(), group, report)
                at += len(rows)
                yield rows
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        report.fail("index", path, f"found {error}; expected the shard that the index was made of")


def _validate_row(row: Mapping[str, Any], context: RowContext, report: ValidationReport) -> bool:
    """Check a row; False where required fields are missing, so that the other checks can not run."""
    report.checked["rows"] += 1
    for name, check in CHECKS.items():
        detail = check(row, context)
        if detail is not None:
            report.fail(name, str(row["row_id"]), detail)
            if name == "required fields":
                return False
    for name, detail in sound(row):
        report.fail(name, row["row_id"], detail)
    return True


def _name_repeated(folder: RowsFolder, column: str, seen: NameHashes, report: ValidationReport) -> None:
    """Report ids that came twice: hashes are kept, names are looked up only when needed."""
    repeated = seen.repeated()
    if not repeated:
        return
    for task, split in folder.splits():
        with _telling("index", index_path(task, split), report):
            names: list[str] = folder.index(task, split, [column])[column].to_pylist()  # pyright: ignore[reportAssignmentType]
            for name in sorted({name for name in names if hash(name) in repeated}):
                what = "unique row ids" if column == "row_id" else "conversations"
                report.fail(what, name, "comes in two places; expected it once, its rows together")
