"""From a shard's units to tables of rows: the one path, in `speechrows build` and in datasets."""

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from speechrows.builds.sharding import plan_shards
from speechrows.corpora.ahead import ahead
from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Reader
from speechrows.corpora.reader import Shard
from speechrows.corpora.reader import Unit
from speechrows.corpora.reader import read_unit
from speechrows.errors import ShortfallError
from speechrows.rows import schema
from speechrows.rows.conversation import split_of
from speechrows.rows.curriculum import band_of
from speechrows.rows.ledger import Ledger
from speechrows.rows.rows import LoadedDialogue
from speechrows.rows.rows import RowSpec
from speechrows.rows.rows import load_clips
from speechrows.rows.rows import to_rows
from speechrows.rows.segmentation import Segmentation
from speechrows.sidecar.join import GeneratedColumns
from speechrows.types import Dialogue
from speechrows.types import UnreadableFile

GROUP_BYTES = 40 << 20  # of audio a table, and so a row group: whole conversations, 32-64 MiB
GROUP_ROWS = 8192  # where clips are tiny

WINDOW_BYTES = 64 << 20  # of a remote corpus, fetched at once
_TEXTS = (".json", ".jsonl", ".tsv", ".csv", ".txt")


def fetched(corpus: Corpus, units: Sequence[Unit[Any]], *, audio: bool = True) -> Iterator[Unit[Any]]:
    """The same units; a remote corpus fetches their files a window at a time, only texts without `audio`."""
    for window in plan_shards(units, WINDOW_BYTES):
        paths = [path for unit in window.units for path in unit.files]
        corpus.fetch(path for path in paths if audio or path.endswith(_TEXTS))
        yield from window.units


class Destination(NamedTuple):
    """Which files a row belongs to; `band` is None where the task has no bands."""

    split: str
    band: int | None


@dataclass(frozen=True)
class Pipeline:
    """A corpus, its reader, and the specification of its rows."""

    corpus: Corpus
    reader: Reader[Any]
    spec: RowSpec
    generated: GeneratedColumns | None = None
    channel: int | None = None  # the one that is kept of clips with several; None keeps them all
    segmentation: Segmentation = field(default_factory=Segmentation)

    def tables(
        self,
        shard: Shard,
        ledger: Ledger,
        *,
        split: str | None = None,
        next_buffer: Callable[[], ClipBuffer] | None = None,
    ) -> Generator[tuple[Destination, pa.Table]]:
        """The rows of a shard as tables of about GROUP_BYTES, counting every item in `ledger`.

        `split` keeps to one split. The clips of a table lie in an empty buffer that `next_buffer` gives: it
        is valid as long as that is not filled again. Without, each table has one of its own.
        """
        next_buffer = next_buffer or self.buffer
        buffer = next_buffer()
        loaded: list[LoadedDialogue] = []
        num_items = 0
        for dialogue in self._dialogues(shard, ledger):
            if split is not None and split_of(dialogue, self.spec.validation_fraction) != split:
                continue
            loaded.append(self._loaded(dialogue, buffer))
            num_items += len(loaded[-1].items)
            if buffer.used >= GROUP_BYTES or num_items >= GROUP_ROWS:
                yield from self._tables(loaded, buffer, ledger)
                loaded, num_items, buffer = [], 0, next_buffer()
        yield from self._tables(loaded, buffer, ledger)
        self._check_unchanged(shard)
        ledger.check()

    def tables_ahead(
        self, shard: Shard, ledger: Ledger, split: str
    ) -> Generator[tuple[Destination, pa.Table]]:
        """The tables of a split, each in a buffer of its own; while one is used, a thread makes the next."""
        with closing(self.tables(shard, ledger, split=split)) as tables:
            yield from ahead(tables, 1)

    def buffer(self) -> ClipBuffer:
        """A buffer for the clips of a table."""
        return ClipBuffer(self.corpus, GROUP_BYTES + (GROUP_BYTES >> 2), channel=self.channel)

    def _loaded(self, dialogue: Dialogue, buffer: ClipBuffer) -> LoadedDialogue:
        """A dialogue, segmented and joined with its generated columns, with its clips."""
        task = self.spec.task
        whole, merged = self.segmentation.merged(dialogue, buffer.sound_of)
        loaded = self.segmentation.within(load_clips(self._joined(whole), task, buffer), task)
        return replace(loaded, left_out=(*merged, *loaded.left_out)) if merged else loaded

    def _check_unchanged(self, shard: Shard) -> None:
        """Raise where a file is not the one that was listed: what was read of it is of neither build."""
        for entry, content in self.corpus.changed(shard.entries):
            raise ShortfallError(
                f"{self.corpus.label}/{entry.path}: changed since it was listed: found {content}, expected "
                f"{entry.content}. Its shard is not built, finished ones are kept: put the file back and run "
                "the same command again; or, once nothing writes there, build again with --overwrite"
            )

    def _dialogues(self, shard: Shard, ledger: Ledger) -> Iterator[Dialogue]:
        """The dialogues of a shard; files that can not be read are counted."""
        for unit in fetched(self.corpus, shard.units):
            for dialogue in read_unit(self.reader, unit, self.spec.builder):
                ledger.files += 1
                if isinstance(dialogue, UnreadableFile):
                    ledger.unreadable.append(dialogue)
                else:
                    yield dialogue

    def _joined(self, dialogue: Dialogue) -> Dialogue:
        """A dialogue with the generated columns of its clips."""
        return dialogue if self.generated is None else self.generated.attach(dialogue, self.spec.task)

    def _tables(
        self, loaded: Sequence[LoadedDialogue], buffer: ClipBuffer, ledger: Ledger
    ) -> Iterator[tuple[Destination, pa.Table]]:
        rows, skipped, left_out = to_rows(loaded, self.spec)
        for dialogue in loaded:
            ledger.items += len(dialogue.items) + len(dialogue.skipped) + len(dialogue.left_out)
            ledger.skipped += dialogue.skipped
            ledger.leave_out(dialogue.left_out)
        ledger.skipped += skipped
        ledger.leave_out(left_out)
        ledger.count_unknown(row.traits for row in rows)
        ledger.count_clips(clip for row in rows for clip in (row.clip, row.target_clip))
        ledger.rows += len(rows)
        banded = self.spec.task.banded
        destinations = [
            Destination(row.split, band_of(row.conversation_tokens) if banded else None) for row in rows
        ]
        table = schema.to_table(rows, buffer.array) if rows else None
        for destination in sorted(set(destinations)):
            assert table is not None
            if len(set(destinations)) == 1:
                yield destination, table
            else:
                yield destination, table.filter(np.array([other == destination for other in destinations]))
