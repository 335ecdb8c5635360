"""An iterable of batches that stops anywhere and goes on exactly, on any number of ranks."""

import os
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.loader.batch import Batch
from speechrows.loader.collate.collator import Collator
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan_rows import plan_rows
from speechrows.loader.ragged import Ragged
from speechrows.loader.read.rowgroup import read_columns
from speechrows.loader.read.stream import Stream
from speechrows.rows.tasks import TASKS

_STATE = (
    "path", "revision", "config", "split", "options", "epoch", "step", "micro_batch", "digest", "rows",
)  # fmt: skip


class Loader:
    """An iterable of `Batch`: the epochs of a rank, one after another.

    Iterating goes on from where the state is, to the end of the epoch; the next iteration is the next
    epoch, unless `set_epoch` says another. The state moves when a batch is handed out, with the last of
    an epoch to the next one: what was only read ahead is read again.
    """

    def __init__(
        self,
        index: Index,
        options: PlanOptions,
        open_stream: Callable[[], Stream],
        collator: Collator,
        tokenizer: PreTrainedTokenizerFast,
        *,
        rank: int = 0,
        world_size: int = 1,
        any_micro_batches: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(f"rank: found {rank} of {world_size}, expected 0 to {world_size - 1}")
        self.index = index
        self.options = options
        self.tokenizer = tokenizer
        self._open_stream = open_stream
        self._streams: dict[int, Stream] = {}  # by process: what a fork took along is not its own
        self._collator = collator
        self._rank = rank
        self._world_size = world_size
        self._any_micro_batches = any_micro_batches
        self._epoch = self._step = self._done = 0  # done: micro-batches of the step, of all ranks
        self._plan: Plan | None = None

    @property
    def plan(self) -> Plan:
        """The epoch's plan, made when it is first asked for."""
        if self._plan is None or self._plan.epoch != self._epoch:
            self._plan = self._planned(self.options, self._epoch)
        return self._plan

    def _planned(self, options: PlanOptions, epoch: int) -> Plan:
        rows = plan_rows(self.index, windowed=options.window_bytes is not None)
        return plan_epoch(rows, options, epoch=epoch, name=self.index.row_id)

    @property
    def epoch(self) -> int:
        """The epoch that is being read, or comes next."""
        return self._epoch

    def __len__(self) -> int:
        """Batches of a whole epoch, for this rank."""
        return len(self.plan) * self.plan.num_rounds(self._world_size)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; where it is the one under way, stay where the state is."""
        if epoch != self._epoch:
            self._epoch, self._step, self._done = epoch, 0, 0

    def __iter__(self) -> Iterator[Batch]:
        epoch = self._epoch
        with closing(self.ragged()) as found:
            for ragged in found:
                yield self._collator(ragged, epoch)

    def ragged(self) -> Generator[Ragged]:
        """The same as read, on the host and not yet padded; each is to be released."""
        left = self.plan.for_rank(self._rank, self._world_size, self._step, self._done)
        if self._step >= len(self.plan):  # there is no row
            self._epoch, self._step, self._done = self._epoch + 1, 0, 0
        with closing(self._read(left)) as found:
            for ragged in found:
                self._advance()
                yield ragged

    def endless(self) -> Iterator[Batch]:
        """Epoch after epoch, from where the state is.

        Raises:
            UsageError: there is no row, or none that fits.
        """
        while len(self):
            yield from self
        raise UsageError(
            f"{self.index.folder.address}: {self.index.config} has no row that fits; found "
            f"{len(self.index)} rows, {self.plan.num_dropped} of them too long"
        )

    def codec(self) -> str | None:
        """The codec of rows' targets, by the first row group of each task; None where they have none.

        Units are not such: where a task needs them, its text spells them.
        """
        shards = self.index.shards
        firsts = {shards[number].task: number for number in reversed(range(len(shards)))}
        with_codes = {name for name, task in TASKS.items() if task.codec_targets and task.needs != "units"}
        tasks = [task for task in self.index.facts if task in with_codes and task in firsts]
        groups = (read_columns(self.index, firsts[task], 0, ("codec",)) for task in tasks)
        return next((name for group in groups for name in group["codec"].to_pylist() if name), None)

    def share(self, number: int, count: int) -> Iterator[Batch]:
        """Of this rank's batches every `count`th from `number` on, to the epoch's end; moves no state."""
        left = self.plan.for_rank(self._rank, self._world_size, self._step, self._done)
        return self.batches(islice(left, number, None, count))

    def batches(self, micro_batches: Iterable[MicroBatch]) -> Iterator[Batch]:
        """The batches of any micro-batches, as they are asked for; moves no state."""
        with closing(self._read(micro_batches)) as found:
            for ragged in found:
                yield self._collator(ragged, self._epoch)

    def in_file_order(self, count: int | None = None) -> Iterator[MicroBatch]:
        """The first `count` rows, or all, each alone, as micro-batches for `batches`."""
        zero = np.zeros(1, np.int32)
        for row in range(len(self.index) if count is None else min(count, len(self.index))):
            rows = np.array([row], np.int32)
            yield MicroBatch(
                step=row, number=0, num_sequences=1, rows=rows, sequence=zero, start=zero, position=zero
            )

    def _read(self, micro_batches: Iterable[MicroBatch]) -> Generator[Ragged]:
        if os.getpid() not in self._streams:
            self._streams[os.getpid()] = self._open_stream()
        return self._streams[os.getpid()].read(micro_batches)

    def _advance(self) -> None:
        self._done += self._world_size
        if self._done >= self.options.micro_batches:
            self._step, self._done = self._step + 1, 0
        if self._step >= len(self.plan):
            self._epoch, self._step = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the state is, as plain values: to be loaded on any number of ranks.

        It is the same on every rank that has taken as many batches.
        """
        return {
            "path": self.index.folder.address,
            "revision": self.index.folder.revision,
            "config": self.index.config,
            "split": self.index.split,
            "options": asdict(self.options),
            "epoch": self._epoch,
            "step": self._step,
            "micro_batch": self._done,
            "digest": self.plan.digest,
            "rows": self.index.digest,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where a state was taken: the steps that were left then follow, exactly.

        Raises:
            UsageError: the state is of other rows or of another plan; says in what they differ. This
                loader then stays where it is.
        """
        missing = [name for name in _STATE if name not in state]
        if missing:
            raise UsageError(
                f"the loader's state: found no {', '.join(missing)}; expected what its state_dict() gave"
            )
        options = self.options
        if self._any_micro_batches:
            asked = state["options"].get("micro_batches", options.micro_batches)
            options = replace(options, micro_batches=asked)
        here = {"config": self.index.config, "split": self.index.split, **asdict(options)}
        there = {"config": state["config"], "split": state["split"], **state["options"]}
        differ = [
            f"{name} {there.get(name)!r}, here {mine!r}"
            for name, mine in here.items()
            if mine != there.get(name)
        ]
        if differ:
            raise UsageError(
                f"the loader's state is of another plan: {'; '.join(differ)}. Load it with those"
            )
        plan = self._planned(options, state["epoch"])
        if (self.index.digest, plan.digest) != (state["rows"], state["digest"]):
            there = state["path"]
            if state["revision"]:
                there = f"{there.partition('@')[0]}@{state['revision']}"
            raise UsageError(
                f"{self.index.folder.address}: its rows are not those of the loader's state, which was taken "
                f"of {there}; load that, or begin anew"
            )
        self.options, self._plan = options, plan
        self._epoch, self._step, self._done = state["epoch"], state["step"], state["micro_batch"]
