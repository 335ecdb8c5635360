"""A shard checked: each of its rows, its conversations, and its lines of the index."""

import struct
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from speechrows.folder.layout import index_path
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.rows_folder import RowsFolder
from speechrows.rows import schema
from speechrows.rows.conversation import ClipCount
from speechrows.rows.curriculum import task_of
from speechrows.text import tokenizers
from speechrows.text.audio_token import audio_token_id
from speechrows.text.template import compile_template
from speechrows.validation.folder import ConversationChecks
from speechrows.validation.folder import NameHashes
from speechrows.validation.folder import check_places
from speechrows.validation.folder import check_shard
from speechrows.validation.folder import count_checksums
from speechrows.validation.folder import read_batches
from speechrows.validation.report import ValidationReport
from speechrows.validation.row import CHECKS
from speechrows.validation.row import RowContext
from speechrows.validation.row import with_renderings
from speechrows.validation.sound import is_plainly_sound
from speechrows.validation.sound import sound

_TOGETHER = 256  # rows as Python's objects at once

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardOfSplit:
    """A shard of a task and split, and which line of their index is its first."""

    task: str
    split: str
    entry: ShardEntry
    first_line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedShard:
    """What was found in a shard; `row_ids` and `conversations` are hashes of names."""

    report: ValidationReport
    row_ids: NameHashes
    conversations: NameHashes


class ShardChecker:
    """Checks shards of a folder, one after another, in one process."""

    def __init__(self, folder: RowsFolder, tokenizer: PreTrainedTokenizerFast) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._contexts: dict[tuple[str, str], RowContext] = {}
        added = tokenizer.added_tokens_decoder
        self._special_ids = frozenset(i for i, token in added.items() if token.special)

    def check(self, shard: ShardOfSplit) -> CheckedShard:
        """Check a shard."""
        report, row_ids = ValidationReport(address=self._folder.address), NameHashes()
        conversations = NameHashes()
        with report.telling("index", index_path(shard.task, shard.split)):
            context = self._context(shard.task, shard.split)
            checks, clips = ConversationChecks(context.task, report), ClipCount()
            for rows in self._chunks(shard, report):
                for row in _validated(rows, context, clips, report):
                    checks.follow(row, shard.entry.path)
                for row in rows:
                    if row["row_id"] is not None:
                        row_ids.add(row["row_id"])
            checks.end()
            conversations = checks.seen
        return CheckedShard(report=report, row_ids=row_ids, conversations=conversations)

    def _context(self, task: str, split: str) -> RowContext:
        """What rows of a task and split are checked against."""
        if (task, split) not in self._contexts:
            facts, tokenizer = self._folder.index_facts(task, split), self._tokenizer
            self._contexts[task, split] = RowContext(
                task=task_of(task),
                split=split,
                tokenizer=tokenizer,
                tokens_per_second=facts.audio_tokens_per_second,
                template=compile_template(tokenizer, task_of(task), facts.template_options),
                audio_id=audio_token_id(tokenizer),
                pad_id=tokenizers.pad_id(tokenizer),
                special_ids=self._special_ids,
            )
        return self._contexts[task, split]

    def _chunks(self, shard: ShardOfSplit, report: ValidationReport) -> Iterator[list[dict[str, Any]]]:
        """The rows of a shard, some at a time; checks that they are those of the index."""
        folder, path, at = self._folder, shard.entry.path, shard.first_line
        try:
            check_shard(folder, shard.entry, report)
            opened = folder.open_parquet(path, verify_checksums=True)
            with opened as parquet, folder.open_file(path) as file:
                if not _has_columns(parquet.schema_arrow, path, report):
                    return
                count_checksums(file, parquet.metadata, report)
                lines = self._lines(shard)
                lacking = dict.fromkeys(schema.LATER_COLUMNS.difference(parquet.schema_arrow.names))
                for group in range(parquet.num_row_groups):
                    for batch in read_batches(folder, path, parquet, group, _TOGETHER, report):
                        rows = [{**row, **lacking} for row in batch.to_pylist()]
                        of_rows = lines.slice(at - shard.first_line, len(rows)).to_pylist()
                        check_places(file, path, rows, of_rows, group, report)
                        at += len(rows)
                        yield rows
        except (OSError, pa.ArrowException, UnicodeDecodeError, struct.error) as error:
            report.fail("index", path, f"found {error}; expected the shard that the index was made of")

    def _lines(self, shard: ShardOfSplit) -> pa.Table:
        """The lines of a shard; of the index no more is read than their row groups."""
        first, end, at = shard.first_line, shard.first_line + shard.entry.rows, 0
        groups: list[int] = []
        begin = 0
        with self._folder.open_index(shard.task, shard.split) as index:
            for group in range(index.num_row_groups):
                size = index.metadata.row_group(group).num_rows
                if at < end and at + size > first:
                    begin = begin if groups else at
                    groups.append(group)
                at += size
            return index.read_row_groups(groups, use_threads=False).slice(first - begin, end - first)


def _has_columns(columns: pa.Schema, path: str, report: ValidationReport) -> bool:
    later = schema.LATER_COLUMNS.difference(columns.names)
    expected = pa.schema([field for field in schema.ARROW_SCHEMA if field.name not in later])
    if columns.equals(expected):
        return True
    differ = [f.name for f in expected if f.name not in columns.names or columns.field(f.name) != f]
    report.fail("required fields", path, f"columns differ from the row's: {', '.join(differ)}")
    return False


def _validated(
    rows: Sequence[Row], context: RowContext, clips: ClipCount, report: ValidationReport
) -> Iterator[Row]:
    """Check rows; yields those whose required fields are there, so that the other checks could run."""
    report.checked["rows"] += len(rows)
    whole: list[Row] = []
    for row in rows:
        detail = CHECKS["required fields"](row, context)
        if detail is None:
            whole.append(row)
        else:
            report.fail("required fields", str(row["row_id"]), detail)
    rendered = with_renderings(whole, context, clips)
    for row in whole:
        for name, check in CHECKS.items():
            detail = None if name == "required fields" else check(row, rendered)
            if detail is not None:
                report.fail(name, str(row["row_id"]), detail)
        if not is_plainly_sound(row):
            for name, detail in sound(row):
                report.fail(name, row["row_id"], detail)
        yield row
