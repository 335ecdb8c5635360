"""What a plan is made of, and the plan: an epoch as arrays of row numbers."""

import hashlib
import json
import math
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import Literal
from typing import get_args
from typing import overload

import numpy as np
import numpy.typing as npt

from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.types import Int32

TICKS_PER_SECOND = 100  # lengths are compared in steps of 10 ms
Mode = Literal["bucket", "pack", "lanes"]
PlanMode = Literal[Mode, "conversations"]  # the last is a view's
CloseOn = Literal["conversation", "turn"]
TooLong = Literal["error", "drop"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRows:
    """What a plan needs to know of the rows, in file order: arrays with an entry a row.

    `num_tokens` are those before padding; `ticks` the audio's length in 10 ms, rounded up.
    `conversations` are numbers that change where a conversation begins. `whole` says whether the
    row's task promises whole conversations: in other tasks each row is a segment. Windows need
    `row_groups`, numbers that change where a row group begins, and `num_bytes`, what is read for a row;
    sessions need `sources`, a number from 0 for each source. Rows of different `apart` never share a
    batch of mode `bucket`.
    """

    num_tokens: Int32
    ticks: Int32
    conversations: Int32
    whole: npt.NDArray[np.bool_] | bool
    row_groups: Int32 | None = None
    num_bytes: Int32 | None = None
    sources: Int32 | None = None
    apart: Int32 | None = None

    def __len__(self) -> int:
        return len(self.num_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """How rows become batches. Budgets, `context` and `batch_size` hold for one micro-batch.

    `bucket` takes one budget: of seconds or of tokens, pads counted; `batch_size` may cap its rows.
    `pack` and `lanes` take `context`, the slots of a sequence, and `batch_size`, their number.
    `pad_to_multiple_of` is the task's: conversations are closed on it, or turns are (`close_on`).

    Rows are shuffled over the whole epoch; with `window_bytes`, inside windows of row groups in random
    order, each of at most so many bytes (or one row group). `bucket` then ends a window before it
    begins the next, and a sequence of `pack` has rows of two neighbouring windows at most.

    In `lanes`, conversations of one source are chained into sessions of at most `session_tokens`, with
    their pads; a state is reset where a session begins. By default that is each conversation.

    `conversations` takes `batch_size`, of conversations, or `budget_seconds`, or both; without `shuffle`
    they come in file order.
    """

    mode: PlanMode = "bucket"
    budget_seconds: float | None = None
    budget_tokens: int | None = None
    context: int | None = None
    batch_size: int | None = None
    micro_batches: int = 1
    pad_to_multiple_of: int = 1
    close_on: CloseOn = "conversation"
    too_long: TooLong = "error"
    window_bytes: int | None = None
    session_tokens: int | None = None
    shuffle: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("mode", get_args(Mode)), ("close_on", get_args(CloseOn)),
                            ("too_long", get_args(TooLong))):  # fmt: skip
            value = getattr(self, name)
            if value not in choices and (name, value) != ("mode", "conversations"):
                meant = did_you_mean(str(value), choices)
                raise UsageError(f"{name}: found {value!r}, expected {' or '.join(choices)}{meant}")
        positive = ("budget_seconds", "budget_tokens", "context", "batch_size", "micro_batches",
                    "window_bytes", "session_tokens")  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            kind, words = (int | float, "number") if name == "budget_seconds" else (int, "whole number")
            is_number = isinstance(value, kind) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 < value < math.inf):
                raise UsageError(f"{name}: found {value!r}, expected a {words} above 0")
        if not isinstance(self.seed, int | np.integer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"seed: found {self.seed!r}, expected a whole number")
        self._check_limits()
        if self.mode != "lanes" and self.session_tokens is not None:
            raise UsageError(f"session_tokens: found mode {self.mode}, expected lanes, which carry a state")
        if self.context and self.context % self.pad_to_multiple_of:
            multiple = self.pad_to_multiple_of
            raise UsageError(
                f"context: found {self.context}, expected a multiple of {multiple}, as rows have"
            )

    def _check_limits(self) -> None:
        limits = [n for n in ("budget_seconds", "budget_tokens", "context") if getattr(self, n) is not None]
        if self.mode == "conversations":
            if limits not in ([], ["budget_seconds"]) or not (limits or self.batch_size):
                raise UsageError("conversations take batch_size, budget_seconds, or both; found none")
            if limits and not self.shuffle:
                raise UsageError("budget_seconds sorts conversations by length; found shuffle=False")
        elif self.mode == "bucket" and limits not in (["budget_seconds"], ["budget_tokens"]):
            raise UsageError(
                f"mode bucket takes budget_seconds or budget_tokens; found {_joined(limits)}. Modes pack and "
                "lanes take context"
            )
        elif self.mode != "bucket" and limits != ["context"]:
            raise UsageError(f"mode {self.mode} takes context, in tokens; found {_joined(limits)}")

    @property
    def budget(self) -> int:
        """The budget of mode `bucket`, in ticks or tokens; 1 a conversation where no seconds are."""
        if self.budget_tokens is not None:
            return self.budget_tokens
        if self.budget_seconds is None:
            return self.num_sequences
        return int(Fraction(str(self.budget_seconds)) * TICKS_PER_SECOND)

    @property
    def num_slots(self) -> int:
        """The slots of a sequence, in `pack` and `lanes`."""
        assert self.context is not None
        return self.context

    @property
    def num_sequences(self) -> int:
        """Sequences of a micro-batch in `pack` and `lanes`."""
        return self.batch_size or 1


def _joined(names: Sequence[str]) -> str:
    return " and ".join(names) or "none"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MicroBatch:
    """What one forward pass reads: n rows in sequences.

    `number` is its place in the step, None for what an idle rank gets. A row stands in sequence
    `sequence` from slot `start` on; `position` counts the slots of its segment before it, those of
    earlier steps too. So a segment begins exactly where it is 0, and there a state is reset, but in a plan
    of sessions, whose `resets` say where. In `bucket` every row is a sequence; in `lanes` sequence b is
    lane `first_lane` + b, in every step.
    """

    step: int
    number: int | None
    num_sequences: int
    rows: Int32
    sequence: Int32
    start: Int32
    position: Int32
    resets: npt.NDArray[np.bool_] | None = None
    sources: npt.NDArray[np.int16] | None = None  # of a mix: the number of each row's source
    repeats: Int32 | None = None  # where rows come several times an epoch: how often each came before

    @property
    def first_lane(self) -> int:
        """The lane of its first sequence."""
        return (self.number or 0) * self.num_sequences

    @property
    def reset(self) -> npt.NDArray[np.bool_]:
        """Whether a state is reset before a row: the first of its segment, or of its session."""
        return self.position == 0 if self.resets is None else self.resets

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan(Sequence[tuple[MicroBatch, ...]]):
    """An epoch, as a sequence of steps of `options.micro_batches` micro-batches each.

    `plan[7]` is step 7, `plan[7:]` the plan of the steps from there on: nothing is copied.

    The rows of the epoch are `rows` [R], with `starts`, `positions` and `resets` as in MicroBatch. `begins`
    and `ends`, both [micro-batches, ranges], say which of them are a micro-batch's: one range
    in `bucket` and `conversations`, one a sequence in `pack` and `lanes`.
    """

    options: PlanOptions
    epoch: int
    rows: Int32
    starts: Int32
    positions: Int32
    begins: Int32
    ends: Int32
    num_dropped: int  # rows, too long
    num_real: int  # ticks or tokens, pads not counted
    num_total: int  # the same, pads counted
    first_step: int = 0
    resets: npt.NDArray[np.bool_] | None = None  # of sessions alone
    sources: npt.NDArray[np.int16] | None = None  # of a mix alone
    repeats: Int32 | None = None  # of a mix that has rows several times

    @cached_property
    def digest(self) -> str:
        """A digest that two plans share exactly if they hold the same steps, whatever was cut off them."""
        facts = [self.options.mode, self.options.context, self.options.micro_batches, self.epoch]
        digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16)
        for array in (self.rows, self.starts, self.positions, self.begins, self.ends):
            digest.update(np.ascontiguousarray(array, "<i4").data)
        if self.resets is not None:
            digest.update(self.resets.data)
        if self.sources is not None:
            digest.update(np.ascontiguousarray(self.sources, "<i2").data)
        return digest.hexdigest()

    @property
    def fill(self) -> float:
        """The share of what is computed that is not padding."""
        return self.num_real / self.num_total if self.num_total else 1.0

    @property
    def padding(self) -> float:
        """What is computed, divided by the part of it that is not padding."""
        return self.num_total / self.num_real if self.num_real else 1.0

    def __len__(self) -> int:
        return len(self.begins) // self.options.micro_batches - self.first_step

    @overload
    def __getitem__(self, index: int) -> tuple[MicroBatch, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> "Plan": ...
    def __getitem__(self, index: int | slice) -> "tuple[MicroBatch, ...] | Plan":
        if isinstance(index, slice):
            first, stop, stride = index.indices(len(self))
            if stop != len(self) or stride != 1:
                raise UsageError(f"plan[{index}]: a plan is cut as plan[step:]")
            return replace(self, first_step=self.first_step + first)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        step = self.first_step + index % len(self)
        return tuple(self._micro_batch(step, number) for number in range(self.options.micro_batches))

    def num_rounds(self, world_size: int) -> int:
        """Micro-batches that every rank runs in a step, one after another."""
        return -(-self.options.micro_batches // world_size)

    def for_rank(
        self, rank: int, world_size: int, start_step: int | None = None, done: int = 0
    ) -> Iterator[MicroBatch]:
        """The micro-batches that a rank runs: rank, rank + world_size, … of each step.

        Every rank gets `num_rounds` of each step: where a step has no more, an empty one. `start_step`
        counts from the epoch's beginning, whatever was cut off this plan; of that step, the first `done`
        micro-batches are left out.
        """
        if not 0 <= rank < world_size:
            raise UsageError(f"rank: found {rank} of {world_size}, expected 0 to {world_size - 1}")
        first, count = self.first_step if start_step is None else start_step, self.options.micro_batches
        for step in range(first, self.first_step + len(self)):
            for number in range(done, count, world_size):
                yield self._micro_batch(step, number + rank if number + rank < count else None)
            done = 0

    def _micro_batch(self, step: int, number: int | None) -> MicroBatch:
        if number is None:
            none = np.empty(0, np.int32)
            return MicroBatch(
                step=step, number=None, num_sequences=0, rows=none, sequence=none, start=none, position=none
            )
        at = step * self.options.micro_batches + number
        begins, ends = self.begins[at], self.ends[at]
        if self.options.mode in ("bucket", "conversations"):
            here: slice | npt.NDArray[np.int64] = slice(int(begins[0]), int(ends[0]))
            sequence = np.cumsum(self.positions[here] == 0, dtype=np.int32) - np.int32(1)
            num_sequences = int(sequence[-1]) + 1 if len(sequence) else 0
        else:
            num_sequences = len(begins)
            here = np.concatenate([np.arange(*pair) for pair in zip(begins, ends, strict=True)])
            sequence = np.repeat(np.arange(num_sequences, dtype=np.int32), ends - begins)
        return MicroBatch(
            step=step, number=number, num_sequences=num_sequences, rows=self.rows[here], sequence=sequence,
            start=self.starts[here], position=self.positions[here],
            resets=None if self.resets is None else self.resets[here],
            sources=None if self.sources is None else self.sources[here],
            repeats=None if self.repeats is None else self.repeats[here],
        )  # fmt: skip
