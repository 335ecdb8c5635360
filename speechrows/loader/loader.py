"""An iterable of batches that resumes exactly where it stopped, on any number of ranks."""

import os
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any
from typing import Generic

import numpy as np
from transformers import PreTrainedTokenizerFast
from typing_extensions import TypeVar

from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.batch import Batch
from speechrows.loader.mix_rows import MixRows
from speechrows.loader.plan.before import with_rows_before
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan_rows import plan_rows
from speechrows.loader.position import check_place
from speechrows.loader.position import check_state
from speechrows.loader.position import differences
from speechrows.loader.position import saved_options
from speechrows.loader.ragged import Ragged
from speechrows.loader.read.codecs import codecs_of
from speechrows.loader.read.codecs import several
from speechrows.loader.read.stream import Stream

B = TypeVar("B", default=Batch)
_MOST_EMPTY = 1000  # epochs of a mix that follow one another without a row


class Loader(Generic[B]):
    """An iterable of `Batch`, or of a view's own: the epochs of a rank, one after another.

    An iteration starts at the state's position and ends with the epoch; the next iteration is the next
    epoch, unless `set_epoch` chooses another. The state moves when a batch is yielded, with the last one
    of an epoch to the next epoch; what was only read ahead is read again after a resume.
    """

    def __init__(  # noqa: PLR0913
        self,
        index: IndexedRows,
        options: PlanOptions,
        open_stream: Callable[[], Stream],
        collator: Callable[[Ragged, int], B],
        tokenizer: PreTrainedTokenizerFast,
        *,
        mix: MixRows | None = None,
        rank: int = 0,
        world_size: int = 1,
        any_micro_batches: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(f"rank: found {rank} of {world_size}, expected 0 to {world_size - 1}")
        self.index = index
        self.options = options
        self.tokenizer = tokenizer
        self.mix = mix
        self._open_stream = open_stream
        self._streams: dict[int, Stream] = {}  # by process: a fork must not read its parent's
        self._collator = collator
        self._rank = rank
        self._world_size = world_size
        self._any_micro_batches = any_micro_batches
        self._epoch = self._step = self._done = 0  # done: micro-batches of the step, of all ranks
        self._plan: Plan | None = None

    @property
    def plan(self) -> Plan:
        """The epoch's plan, made at first use."""
        if self._plan is None or self._plan.epoch != self._epoch:
            self._plan = self._make_plan(self.options, self._epoch)
        return self._plan

    def _make_plan(self, options: PlanOptions, epoch: int) -> Plan:
        if self.mix is not None:
            return self.mix.plan(options, epoch)
        windowed, sourced = options.window_bytes is not None, options.session_tokens is not None
        rows = plan_rows(self.index, windowed=windowed, sourced=sourced)
        return plan_epoch(rows, options, epoch=epoch, name=self.index.row_id)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources that `Batch.source` numbers: those of a mix, or the address alone."""
        return (self.index.address,) if self.mix is None else self.mix.names

    @property
    def epoch(self) -> int:
        """The epoch that is being read, or the next one."""
        return self._epoch

    def __repr__(self) -> str:
        index = self.index
        hours = float((index.num_samples / index.sampling_rate).sum()) / 3600
        return (
            f"Loader({index.address!r}, config={index.config!r}, split={index.split!r}, "
            f"mode={self.options.mode!r}, rows={len(index)}, hours={hours:.4g}, rank={self._rank}, "
            f"world_size={self._world_size}, epoch={self._epoch}, step={self._step})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """All but the open streams: a process that gets this loader opens its own."""
        return {**vars(self), "_streams": {}}

    def __len__(self) -> int:
        """Batches of a whole epoch, for this rank."""
        return len(self.plan) * self.plan.num_rounds(self._world_size)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; in the current epoch, keep the position.

        Raises:
            UsageError: it is negative.
        """
        if epoch < 0:
            raise UsageError(f"epoch: found {epoch}, expected at least 0")
        if epoch != self._epoch:
            self._epoch, self._step, self._done = epoch, 0, 0

    def __iter__(self) -> Iterator[B]:
        epoch = self._epoch
        with closing(self.ragged()) as batches:
            for ragged in batches:
                yield self._collator(ragged, epoch)

    def ragged(self) -> Generator[Ragged]:
        """Read the batches without collating them: on the host, not padded; the caller releases each."""
        remaining = self.plan.for_rank(self._rank, self._world_size, self._step, self._done)
        if self._step >= len(self.plan):  # there is no row
            self._epoch, self._step, self._done = self._epoch + 1, 0, 0
        with closing(self._read(remaining)) as batches:
            for ragged in batches:
                self._advance()
                yield ragged

    def endless(self) -> Iterator[B]:
        """Iterate over epoch after epoch, from the state's position.

        Raises:
            UsageError: there is no row, or none that fits.
        """
        num_empty = 0  # epochs without a row: an epoch of a mix may be shorter than a conversation
        while len(self) or (self.mix is not None and not self.plan.num_dropped and num_empty < _MOST_EMPTY):
            num_empty = 0 if len(self) else num_empty + 1
            yield from self
        raise UsageError(
            f"{self.index.address}: {self.index.config or 'the mix'} has no row that fits; found "
            f"{len(self.index)} rows, {self.plan.num_dropped} of them too long"
        )

    def codec(self) -> str | None:
        """The codec of the rows' targets, found in the first row group of each task; None without targets.

        Units are no targets: where a task needs them, they are spelt in its text.

        Raises:
            UsageError: there are several: a model speaks one.
        """
        if self.mix is not None:
            owners = self.mix.owners()
        else:
            codecs = codecs_of(self.index)
            owners = {name: shard.task for name, shard in zip(codecs, self.index.shards, strict=True) if name}
        if len(owners) > 1:
            raise UsageError(
                f"{self.index.address}: {several(owners)}; expected one, as a model has one audio head. "
                "Train on those rows apart"
            )
        return next(iter(owners), None)

    def share(self, number: int, count: int) -> Iterator[B]:
        """Every `count`th batch of this rank from the `number`th on, to the epoch's end; moves no state."""
        remaining = self.plan.for_rank(self._rank, self._world_size, self._step, self._done)
        return self.batches(islice(remaining, number, None, count))

    def batches(self, micro_batches: Iterable[MicroBatch]) -> Iterator[B]:
        """The batches of any micro-batches, in their order; moves no state."""
        with closing(self._read(micro_batches)) as batches:
            for ragged in batches:
                yield self._collator(ragged, self._epoch)

    def in_file_order(self) -> Iterator[MicroBatch]:
        """Micro-batches of one row each; for `batches`."""
        zero = np.zeros(1, np.int32)
        for row in range(len(self.index)):
            rows = np.array([row], np.int32)
            yield MicroBatch(
                step=row, number=0, num_sequences=1, rows=rows, sequence=zero, start=zero, position=zero
            )

    def with_rows_before(self, rows: Sequence[int]) -> Iterator[MicroBatch]:
        """Micro-batches of one row each, last, after those before it in its segment; for `batches`."""
        return with_rows_before(plan_rows(self.index), self.options, rows)

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
        """The position and what it depends on, as plain values; loads on any number of ranks.

        It is the same on every rank that has yielded as many batches.
        """
        return {
            **self._rows_state(),
            "options": saved_options(self.options),
            "epoch": self._epoch,
            "step": self._step,
            "micro_batch": self._done,
            "digest": self.plan.digest,
            "rows": self.index.digest,
        }

    def _rows_state(self) -> dict[str, Any]:
        """Which rows a state is of; of a mix, with what each source is."""
        index = self.index
        if self.mix is not None:
            return {
                "path": index.address,
                "revision": None,
                "config": "",
                "split": "",
                "mix": self.mix.state(),
            }
        assert isinstance(index, Index)
        folder = index.folder
        return {
            "path": folder.address, "revision": folder.revision, "config": index.config, "split": index.split,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position of a state: exactly the steps that remained then follow.

        Raises:
            UsageError: the state is of other rows or of another plan; the message says in what they
                differ. This loader then keeps its position.
        """
        check_state(state)
        options = self.options
        if self._any_micro_batches:
            options = replace(options, micro_batches=state["options"]["micro_batches"])
        different = differences(state, self._rows_state(), options)
        if different:
            raise UsageError(
                f"the loader's state is of another plan: {'; '.join(different)}. Load it with those"
            )
        if self.index.digest != state["rows"]:
            address = state["path"]
            if state["revision"]:
                address = f"{address.partition('@')[0]}@{state['revision']}"
            raise UsageError(
                f"{self.index.address}: its rows are not those of the loader's state, which was taken "
                f"of {address}; load that, or begin anew"
            )
        plan = self._make_plan(options, state["epoch"])
        if plan.digest != state["digest"]:
            raise UsageError(
                f"the loader's state: found digest {state['digest']!r:.80} of epoch {state['epoch']}, for "
                f"these rows {plan.digest!r}: the state was changed, or is of another version. Begin anew"
            )
        check_place(state, len(plan))
        self.options, self._plan = options, plan
        self._epoch, self._step, self._done = state["epoch"], state["step"], state["micro_batch"]
