"""Retokenised rows: ids and labels of another tokenizer or rate of audio tokens, from the rows' messages.

A plan is made of lengths, so all rows are retokenised once and their lengths kept in datasets' cache;
the ids themselves are made again whenever rows are read.
"""

import hashlib
import json
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from speechrows.codec import num_audio_tokens
from speechrows.codec import parse_rate
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.read.records import RowTokens
from speechrows.loader.read.rowgroup import read_columns
from speechrows.loader.read.rowgroup import read_row_groups
from speechrows.rows.conversation import ClipCount
from speechrows.rows.tasks import TASKS
from speechrows.storage.cache import cached
from speechrows.text import tokenizers
from speechrows.text.template import compile_template
from speechrows.text.template import is_chat
from speechrows.types import Fields
from speechrows.types import Int32
from speechrows.types import Template

_VERSION = "3"  # of retokenising; raised when lengths in the cache would be wrong
COLUMNS = (
    "row_id", "turn_number", "num_turns", "num_samples", "sampling_rate", "messages", "labels", "system",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Retokenizer:
    """Makes ids and labels of an index' rows under a tokenizer and a rate of audio tokens."""

    tokens_per_second: Mapping[str, Fraction]  # of each task
    templates: Mapping[str, Template]  # of each task
    end_ids: frozenset[int]  # special ids of the tokenizer that the rows were built with
    digest: str

    @staticmethod
    def of(
        index: Index,
        built_with: PreTrainedTokenizerFast,
        tokenizer: PreTrainedTokenizerFast,
        audio_tokens_per_second: str | float | None,
    ) -> "Retokenizer":
        """The retokenizer of an index' rows; a rate of None is the rate of each task as it was built.

        Raises:
            UsageError: rows are of a task that is no chat.
        """
        others = [task for task in index.facts if not is_chat(TASKS[task])]
        if others:
            raise UsageError(
                f"{index.folder.address}: rows of {', '.join(others)} are not rendered anew: their "
                "units are tokens of the tokenizer that they were built with; build them with another"
            )
        new_rate = None if audio_tokens_per_second is None else parse_rate(audio_tokens_per_second)
        rates = {task: new_rate or rate for task, rate in index.audio_tokens_per_second.items()}
        options = {task: facts.template_options for task, facts in index.facts.items()}
        recipe = [
            _VERSION,
            tokenizers.fingerprint(tokenizer),
            sorted((task, str(rate), options[task].to_json()) for task, rate in rates.items()),
            index.digest,
        ]
        return Retokenizer(
            tokens_per_second=rates,
            templates={task: compile_template(tokenizer, TASKS[task], options[task]) for task in rates},
            end_ids=frozenset(i for i, token in built_with.added_tokens_decoder.items() if token.special),
            digest=hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32],
        )

    def rows(self, task: str, table: pa.Table, clips: ClipCount) -> Iterator[tuple[Int32, Int32]]:
        """Ids and labels of a task's rows, without padding; `table` has COLUMNS. `clips` counts theirs.

        Raises:
            ShortfallError: the tokenizer does not give an assistant's words back.
        """
        whole, rate = TASKS[task].whole, self.tokens_per_second[task]
        rows = table.to_pylist()
        rendered = self.templates[task].fill([self._fields(row, clips, whole=whole) for row in rows])
        for row, text in zip(rows, rendered, strict=True):
            if text is None:
                raise ShortfallError(
                    f"{row['row_id']}: the tokenizer does not give {row['messages'][1]['content']!r:.80} "
                    "back; build the rows with it: such rows are then skipped and counted"
                )
            has_clip = row["num_samples"] is not None
            audio = num_audio_tokens(row["num_samples"], row["sampling_rate"], rate) if has_clip else 0
            yield text.assemble(audio, length=text.num_tokens(audio))

    def read_row_groups(self, index: IndexedRows, shard: int, row_groups: Sequence[int]) -> RowTokens:
        """Read the retokenised rows of row groups; codes as they are stored.

        Raises:
            ShortfallError: see rows; or it can not be read.
        """
        stored = read_row_groups(index, shard, row_groups)
        table = read_columns(index, shard, row_groups, COLUMNS)
        rows = [*self.rows(index.shards[shard].task, table, ClipCount())]
        return replace(
            stored,
            num_tokens=np.array([len(ids) for ids, _ in rows], np.int32),
            input_ids=np.concatenate([ids for ids, _ in rows]),
            labels=np.concatenate([labels for _, labels in rows]),
        )

    def _fields(self, row: Mapping[str, Any], clips: ClipCount, *, whole: bool) -> Fields:
        answer = row["messages"][1]["content"]
        supervised = [label for label in row["labels"] if label >= 0]
        is_cut = not supervised or supervised[-1] not in self.end_ids  # an answer that was cut has no end
        return Fields(
            transcript=answer,
            answer=answer,
            answer_is_cut=is_cut,
            number=row["turn_number"] if whole else 0,
            last=not whole or row["turn_number"] == row["num_turns"] - 1,
            system=row.get("system"),  # which folders of earlier versions lack
            prompt=row["messages"][0]["content"],
            clips_before=clips.before(row["turn_number"], has_clip=row["num_samples"] is not None),
        )


def retokenized(index: Index, retokenizer: Retokenizer) -> Index:
    """The index with the lengths that its rows have when they are retokenised."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, _lengths(index, retokenizer))

    lengths: Int32 = cached(f"lengths-{retokenizer.digest}.npy", np.load, write)
    multiples = np.array([TASKS[shard.task].pad_to_multiple_of for shard in index.shards])[index.shard]
    facts = {
        task: replace(task_facts, audio_tokens_per_second=retokenizer.tokens_per_second[task])
        for task, task_facts in index.facts.items()
    }
    padded = np.asarray(-(-lengths // multiples) * multiples, np.int32)
    return replace(index, facts=facts, num_tokens=lengths, padded_tokens=padded)


def _lengths(index: Index, retokenizer: Retokenizer) -> Int32:
    lengths: list[int] = []
    with tqdm(total=len(index), desc="tokens", unit="row", disable=None) as bar:
        for number, shard in enumerate(index.shards):
            index.check_shard(number)
            clips = ClipCount()
            with index.open_shard(number) as parquet:
                for batch in parquet.iter_batches(2048, columns=[*COLUMNS], use_threads=False):
                    table = pa.Table.from_batches([batch])
                    lengths += [len(ids) for ids, _ in retokenizer.rows(shard.task, table, clips)]
                    bar.update(len(batch))
    return np.array(lengths, np.int32)
