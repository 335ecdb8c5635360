"""Rows as the conversations that they are of: who says what, in which clip, and when."""

import itertools
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from speechrows.conversations.records import Record
from speechrows.conversations.records import Sound
from speechrows.rows.tasks import TASKS
from speechrows.types import TRAITS
from speechrows.types import Role

# The columns of rows that conversations are made of.
COLUMNS = (
    *("row_id", "task", "conversation_id", "speaker", "role", "audio", "sampling_rate", "num_samples"),
    *("transcript", "messages", "target_audio", "system", "start_s"),
    *TRAITS,
)


# Tasks whose rows are turns, each with its clip and its words.
TURN_TASKS = tuple(
    name
    for name, task in TASKS.items()
    if task.pairing == "turn" and task.segments[-1].text == "{transcript}"
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpokenTurn:
    """What one side says.

    `text` are its words: of a user's clip, what is said in it. `message` is what stands in a chat: of a user,
    `<audio>` in the place of the clip, and the words that were written around it. `speaker` is the corpus'
    name, where rows tell it. `row` numbers the row in its split. `rate_hz` and `num_samples` are of the clip;
    of an answer's clip rows do not tell them. `start_s` is when the turn begins, where rows tell it. `traits`
    are the known ones of how it is spoken.
    """

    role: Role
    text: str
    message: str
    row: int
    speaker: str | None = None
    clip: Sound | None = None
    rate_hz: int | None = None
    num_samples: int | None = None
    start_s: float | None = None
    traits: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def seconds(self) -> float:
        """How long the clip is, where the row tells it; else 0."""
        return (self.num_samples or 0) / (self.rate_hz or 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Conversation:
    """Turns that follow one another, with the system prompt before them.

    `id` is the rows' conversation_id, or the row_id where each row is a conversation of its own.
    """

    id: str
    system: str | None
    turns: tuple[SpokenTurn, ...]


def conversations(records: Iterable[Record]) -> Iterator[Conversation]:
    """The conversations of rows, in file order, one in memory.

    Rows of `ttt` are turns, each with its clip; those of `response` and `chat` are exchanges, a user's turn
    and its answer. Of other tasks a row is a conversation: a clip, and what the assistant is to say.
    """
    for name, group in itertools.groupby(records, key=_name):
        rows = [*group]
        turns = tuple(turn for row in rows for turn in turns_of(row, is_turn=_is_turn(row)))
        yield Conversation(id=name[1], system=rows[0]["system"], turns=turns)


def answered(conversation: Conversation, changes: Counter[str]) -> Sequence[SpokenTurn]:
    """The turns from the user's first to the last answer; `changes` counts the others."""
    turns = conversation.turns
    roles = [turn.role for turn in turns]
    first = roles.index("user") if "user" in roles else len(roles)
    last = len(roles) - roles[::-1].index("assistant") if "assistant" in roles else 0
    changes["turns left out: before the user's first"] += first
    changes["turns left out: after the last answer"] += len(roles) - max(first, last)
    kept = turns[first:last]
    if not kept:
        changes["conversations left out: no answer to a user"] += 1
    return kept


def _name(row: Record) -> tuple[str, str]:
    return row["task"], row["conversation_id" if TASKS[row["task"]].whole else "row_id"]


def _is_turn(row: Record) -> bool:
    return TASKS[row["task"]].whole and TASKS[row["task"]].pairing == "turn"


def turns_of(row: Record, *, is_turn: bool) -> Iterator[SpokenTurn]:
    """The turn that a row is, or the user's and the answer to it; a `Record` has COLUMNS and its number."""
    message, answer = (message["content"] for message in row["messages"])
    clip = row["audio"]
    words = answer if is_turn else row["transcript"] if clip is not None else message
    yield SpokenTurn(
        role=row["role"] if is_turn else "user",
        text=words,
        message=words if is_turn and row["role"] == "assistant" else message,
        row=row["row"],
        speaker=row["speaker"],
        clip=clip,
        rate_hz=row["sampling_rate"],
        num_samples=row["num_samples"],
        start_s=row["start_s"],
        traits={name: row[name] for name in TRAITS if row[name] is not None},
    )
    if not is_turn:
        yield SpokenTurn(
            role="assistant", text=answer, message=answer, row=row["row"], clip=row["target_audio"]
        )
