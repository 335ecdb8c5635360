"""Micro-batches of rows as conversations in time: what a view makes its batches of."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any
from typing import Generic
from typing import Literal
from typing import TypeVar

import numpy as np

from speechrows.audio.facts import MAX_SECONDS
from speechrows.audio.slices import to_samples
from speechrows.codec import CODECS
from speechrows.conversations.placing import MOVED
from speechrows.conversations.placing import arranged
from speechrows.conversations.turns import SpokenTurn
from speechrows.conversations.turns import turns_of
from speechrows.errors import UsageError
from speechrows.loader.ragged import Ragged
from speechrows.types import TRAITS
from speechrows.types import Int16

B = TypeVar("B")
Early = Literal["error", "cut"]
# The columns of rows that turns are made of, beside their clips.
COLUMNS = (
    *("row_id", "conversation_id", "speaker", "role", "sampling_rate", "num_samples", "transcript"),
    *("messages", "start_s"),
)
_NOTHING = dict.fromkeys(("audio", "target_audio", *TRAITS))
CUT_BEFORE_0 = "turns that began before 0 s: cut to what is after it"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TimedTurn:
    """A turn of a conversation, in time. Samples count at the conversation's rate.

    `samples` int16 [S] are its clip's, one channel at `clip_rate_hz`, valid until the batch is made; none
    where a view reads no clips. `codes` int16 [K, F] are those of the row, where it has them.
    """

    turn: SpokenTurn
    side: Hashable
    first: int  # sample of the conversation
    num_samples: int
    start_s: float
    stop_s: float
    samples: Int16
    codec: str | None
    codes: Int16 | None

    @property
    def stop(self) -> int:
        """The sample after its last."""
        return self.first + self.num_samples

    @property
    def clip_rate_hz(self) -> int:
        """The rate of its clip."""
        return self.turn.rate_hz or 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TimedConversation:
    """A conversation with its turns in the order of time; all its channels have `num_samples`."""

    id: str
    turns: Sequence[TimedTurn]
    rate_hz: int
    num_samples: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.num_samples / self.rate_hz


def role_of(turn: SpokenTurn, conversation_id: str) -> Hashable:  # noqa: ARG001
    """The side of a turn: its role."""
    return turn.role


@dataclass(frozen=True, kw_only=True, eq=False)
class ConversationCollator(Generic[B]):
    """Makes a view's batch of a micro-batch: `collator(ragged, epoch)`.

    `make` gets the conversations, none for an idle rank. `side_of` says in which channel a turn of a
    conversation is heard. `changes` counts what was not taken as it was, in the batches made so far.
    """

    make: Callable[[Sequence[TimedConversation]], B]
    side_of: Callable[[SpokenTurn, str], Hashable] = role_of
    gap_s: float = 0.0
    early: Early = "error"  # what becomes of a turn that begins before 0
    changes: Counter[str] = field(default_factory=Counter[str])

    def __call__(self, ragged: Ragged, epoch: int) -> B:  # noqa: ARG002
        """The batch of a micro-batch, whose buffer is released.

        Raises:
            UsageError: a conversation that the view can not take; it is named.
        """
        try:
            return self.make([*self._conversations(ragged)])
        finally:
            ragged.release()

    def _conversations(self, ragged: Ragged) -> Iterator[TimedConversation]:
        records = json.loads(f"[{','.join(ragged.notes)}]")
        turns = _turns(ragged, records)
        edges = np.flatnonzero(np.diff(ragged.micro_batch.sequence, prepend=-1, append=-1))
        for begin, end in itertools.pairwise(edges.tolist()):
            name = records[begin]["conversation_id"]
            yield self._timed(name, [turn for row in turns[begin:end] for turn in row])

    def _timed(self, name: str, turns: Sequence["_Heard"]) -> TimedConversation:
        turns = [turn for heard in turns for turn in self._from_0(name, heard)]
        sides = [self.side_of(heard.turn, name) for heard in turns]
        at = arranged([heard.turn for heard in turns], sides, self.gap_s)
        if at.num_samples > MAX_SECONDS * at.rate_hz:
            raise UsageError(
                f"{name}: lasts {at.num_samples / at.rate_hz:,.0f} s; expected at most {MAX_SECONDS:,}. "
                "Build the rows again, in shorter ones, or from times that count from their beginning"
            )
        self.changes[MOVED] += sum(place.is_moved for place in at.places)
        timed = [
            TimedTurn(
                turn=turns[number].turn,
                side=sides[number],
                first=at.places[i].first,
                num_samples=at.lengths[i],
                start_s=start_s,
                stop_s=stop_s,
                samples=turns[number].samples,
                codec=turns[number].codec,
                codes=turns[number].codes,
            )
            for i, (number, (start_s, stop_s)) in enumerate(zip(at.order, at.times(), strict=True))
        ]
        return TimedConversation(id=name, turns=timed, rate_hz=at.rate_hz, num_samples=at.num_samples)

    def _from_0(self, name: str, heard: "_Heard") -> Iterator["_Heard"]:
        """The turn; of one that begins before 0 what is after it."""
        start = heard.turn.start_s
        if start is None or not start < 0:
            yield heard
            return
        if self.early == "error":
            raise UsageError(
                f"{name}: {heard.turn.role}'s turn {heard.turn.text!r:.60} begins at {start:g} s, before its "
                "conversation; expected 0 or later. Give overflow='cut' to hear it from 0 on, or build the "
                "rows again from times that count from the beginning"
            )
        self.changes[CUT_BEFORE_0] += 1
        turn = heard.turn
        lost = int(to_samples(-start, turn.rate_hz or 1))
        if lost < (kept := turn.num_samples or 0):
            turn = replace(turn, start_s=0.0, num_samples=kept - lost)
            yield replace(heard, turn=turn, samples=heard.samples[lost:])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Heard:
    """A turn with its clip and codes."""

    turn: SpokenTurn
    samples: Int16
    codec: str | None
    codes: Int16 | None


def _turns(ragged: Ragged, records: Sequence[dict[str, Any]]) -> list[list[_Heard]]:
    """The turns of each row, whose columns `records` are."""
    clips = _pieces(ragged.samples, ragged.num_samples)
    clip_of = dict(zip(ragged.clip_rows.tolist(), clips, strict=True))
    codes_of = dict[int, Int16]()
    if ragged.codec is not None:
        num_codebooks = CODECS[ragged.codec].num_codebooks
        codes = _pieces(ragged.codes, ragged.num_frames * num_codebooks)
        codes_of = {
            row: flat.reshape(num_codebooks, -1)
            for row, flat in zip(ragged.code_rows.tolist(), codes, strict=True)
        }
    silence = np.empty(0, np.int16)
    return [
        [
            _Heard(
                turn=turn,
                samples=clip_of.get(row, silence),
                codec=ragged.codec if row in codes_of else None,
                codes=codes_of.get(row),
            )
            for turn in turns_of({**_NOTHING, **record, "row": row}, is_turn=True)
        ]
        for row, record in enumerate(records)
    ]


def _pieces(values: Int16, sizes: Sequence[int] | np.ndarray) -> list[Int16]:
    stops = np.cumsum(sizes).tolist()  # np.split takes several times as long
    return [values[first:stop] for first, stop in zip([0, *stops], stops, strict=False)]
