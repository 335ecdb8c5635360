"""Made-up rows as reading would hand them to collation: what every token and sample is can be told."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from speechrows.codec import CODECS
from speechrows.codec import num_audio_tokens
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.loader.ragged import Ragged

RATE = Fraction(25, 2)
AUDIO = 7  # the placeholder; texts have ids from 1000 on
PAD = 3


@dataclass(frozen=True, kw_only=True)
class ToyRow:
    """A row: its clip's placeholders (none without samples), then so many tokens of text, all supervised."""

    number: int
    conversation: int = 0
    turn: int = 0
    num_text: int = 4
    num_samples: int = 0
    rate: int = 16_000
    num_frames: int = 0
    samples: np.ndarray | None = field(default=None, repr=False)

    @property
    def row_id(self) -> str:
        return f"toys/train/some/{self.conversation}/{self.turn}/ttt"

    @property
    def num_audio_tokens(self) -> int:
        return num_audio_tokens(self.num_samples, self.rate, RATE)

    @property
    def input_ids(self) -> list[int]:
        text = range(self.num_text)
        return [AUDIO] * self.num_audio_tokens + [1000 + 100 * self.number + i for i in text]

    @property
    def labels(self) -> list[int]:
        return [-100] * self.num_audio_tokens + self.input_ids[self.num_audio_tokens :]

    @property
    def wave(self) -> np.ndarray:
        if self.samples is not None:
            return self.samples
        rng = np.random.default_rng([self.number, self.num_samples])
        slow = rng.normal(0, 9000, self.num_samples // 8 + 2)  # so that a filter has something to keep
        return np.interp(np.arange(self.num_samples) / 8, np.arange(len(slow)), slow).astype(np.int16)

    @property
    def codes(self) -> np.ndarray:
        """[8, F], each code telling codebook and frame."""
        return (np.arange(8)[:, None] * 100 + np.arange(self.num_frames)).astype(np.int16)


def of_lengths(conversations: Sequence[Sequence[tuple[int, int, int, int]]]) -> list[ToyRow]:
    """Rows of conversations, their turns (tokens of text, samples, rate, frames)."""
    turns = [
        (i, j, turn) for i, conversation in enumerate(conversations) for j, turn in enumerate(conversation)
    ]
    return [
        ToyRow(
            number=n, conversation=i, turn=j, num_text=text, num_samples=samples, rate=rate, num_frames=frames
        )
        for n, (i, j, (text, samples, rate, frames)) in enumerate(turns)
    ]


RATES = st.sampled_from([8_000, 16_000, 24_000])
TURNS = st.tuples(st.integers(1, 20), st.integers(1, 9000) | st.just(0), RATES, st.integers(0, 5))
ROWS = st.lists(st.lists(TURNS, min_size=1, max_size=4), min_size=1, max_size=8).map(of_lengths)
BUCKETS = st.builds(
    PlanOptions,
    mode=st.just("bucket"),
    budget_tokens=st.integers(60, 200),
    micro_batches=st.sampled_from([1, 2]),
    pad_to_multiple_of=st.sampled_from([1, 64]),
)
SEQUENCES = st.builds(
    PlanOptions,
    mode=st.sampled_from(["pack", "lanes"]),
    context=st.sampled_from([64, 128, 256]),
    pad_to_multiple_of=st.sampled_from([1, 16, 64]),
    close_on=st.sampled_from(["conversation", "turn"]),
    batch_size=st.sampled_from([1, 2, 3]),
    micro_batches=st.sampled_from([1, 2, 3]),
    too_long=st.just("drop"),
)
OPTIONS = BUCKETS | SEQUENCES


def plan_rows(rows: Sequence[ToyRow]) -> PlanRows:
    return PlanRows(
        num_tokens=np.array([len(row.input_ids) for row in rows], np.int32),
        ticks=np.array([row.num_samples * 100 // row.rate + 1 for row in rows], np.int32),
        conversations=np.array([row.conversation for row in rows], np.int32),
        whole=True,
    )


def alone(rows: Sequence[ToyRow]) -> MicroBatch:
    """Mode `bucket`: these rows, each a sequence."""
    zeros = np.zeros(len(rows), np.int32)
    numbers = np.arange(len(rows), dtype=np.int32)
    return MicroBatch(step=0, number=0, num_sequences=len(rows), rows=numbers, sequence=numbers, start=zeros,
                      position=zeros)  # fmt: skip


def ragged(rows: Sequence[ToyRow], micro_batch: MicroBatch | None = None, **options) -> Ragged:
    """A micro-batch of these rows as it is read; by default of all of them, in mode `bucket`."""
    micro_batch = alone(rows) if micro_batch is None else micro_batch
    rows = [rows[i] for i in micro_batch.rows.tolist()]
    spoken = [i for i, row in enumerate(rows) if row.num_samples]
    coded = [i for i, row in enumerate(rows) if row.num_frames]
    return Ragged(
        micro_batch=micro_batch,
        row_ids=tuple(row.row_id for row in rows),
        tasks=("ttt",) * len(rows),
        turn_numbers=ints(row.turn for row in rows),
        num_tokens=ints(len(row.input_ids) for row in rows),
        input_ids=ints(token for row in rows for token in row.input_ids),
        labels=ints(label for row in rows for label in row.labels),
        samples=np.concatenate([np.empty(0, np.int16), *(rows[i].wave for i in spoken)]),
        num_samples=ints(rows[i].num_samples for i in spoken),
        sampling_rates=ints(rows[i].rate for i in spoken),
        num_audio_tokens=ints(rows[i].num_audio_tokens for i in spoken),
        clip_rows=ints(spoken),
        codec="mimi" if coded else None,
        codes=np.concatenate([np.empty(0, np.int16), *(rows[i].codes.ravel() for i in coded)]),
        num_frames=ints(rows[i].num_frames for i in coded),
        code_rows=ints(coded),
        **options,
    )


def ints(values) -> np.ndarray:
    return np.array(list(values), np.int32)


assert CODECS["mimi"].num_codebooks == len(ToyRow(number=0).codes)
