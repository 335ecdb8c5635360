"""The nouns of speechrows. Everything that flows between modules is one of these, frozen.

Shapes, one legend for the whole project: B rows of a batch, N clips, T tokens, S samples,
F frames, K codebooks, M mel bins.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal
from typing import NewType

import numpy as np
import numpy.typing as npt

Samples = NewType("Samples", int)
Tokens = NewType("Tokens", int)

Role = Literal["user", "assistant"]
Int32 = npt.NDArray[np.int32]

IGNORE_INDEX = -100  # a label that takes no loss, as in torch and transformers
AUDIO_TOKEN = "<audio>"  # the placeholder that encoder frames replace, one each


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioRef:
    """Where a clip's bytes are: a path relative to the corpus folder. Never the samples."""

    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """How a clip is spoken, normalised by traits.py; None where unknown."""

    emotion: str | None = None
    gender: str | None = None
    age: str | None = None
    volume: str | None = None
    pace: str | None = None
    accent: str | None = None


class Reason(StrEnum):
    """Why an item became no row through a fault of the corpus."""

    MISSING = "missing"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    ZERO_SAMPLES = "zero_samples"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    REFUSED_PATH = "refused_path"
    BAD_NUMBER = "bad_number"
    BAD_SPEAKER = "bad_speaker"
    BAD_TEXT = "bad_text"
    EMPTY_TEXT = "empty_text"
    METADATA_DISAGREES = "metadata_disagrees"
    NOT_ROUND_TRIP = "not_round_trip"
    DIALOGUE_INCOMPLETE = "dialogue_incomplete"


class Rule(StrEnum):
    """Why an item became no row although nothing is wrong with it: a rule of the config."""

    NO_ANSWER = "no_answer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What is wrong with a turn. `detail` says what was found and what was expected."""

    reason: Reason
    detail: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One speaker's clip in a dialogue.

    `number` is the turn's place, from 0, as the corpus numbers it (corpora that count from 1
    are shifted). `role` is None only where `fault` says why. A turn without audio and
    without fault is a text-only answer.
    """

    number: int
    speaker: str
    role: Role | None
    text: str
    audio: AudioRef | None
    traits: Traits = Traits()
    fault: Fault | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialogue:
    """A conversation in turn order.

    `twin_key` is what renderings of the same texts share (two text-to-speech versions of one
    dialogue): its stable hash decides the split, so that twins never straddle it.
    `source` is the corpus file, relative, in which the dialogue is described.
    """

    conversation_id: str
    split: str
    domain: str | None
    turns: tuple[Turn, ...]
    twin_key: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What a reader reads at once, a dialogue as a rule.

    `file` describes it, under `name` where that file describes several; `files` are its clips
    and what lies beside them; `num_bytes` is what they weigh.
    """

    file: str
    name: str
    files: tuple[str, ...]
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A run of units that one process builds in one go."""

    number: int
    units: tuple[Unit, ...]

    @property
    def num_bytes(self) -> int:
        """What its units weigh."""
        return sum(unit.num_bytes for unit in self.units)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreadableFile:
    """A metadata file that could not be read: it has no items, so it is counted as a file."""

    file: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A piece of a task's text.

    `text` holds `<audio>`, or {transcript} or {answer}, which a row fills in; `supervised` says
    whether its tokens (and the end-of-turn token after them) take loss.
    """

    role: Role
    text: str
    supervised: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a row teaches. Everything rows.py needs to know of a task stands here."""

    name: str
    pairing: Literal["turn", "exchange"]
    segments: tuple[Segment, Segment]
    whole: bool  # promises whole conversations: turns 0..num_turns-1 all present
    lower_case: bool = False
    pad_to_multiple_of: int = 1
    banded: bool = False  # written in bands of conversation_tokens, for the curriculum


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip that was read and checked: its place in the clip buffer, and facts of its header.

    `name` is a file name with the true extension; `num_samples` counts frames a channel.
    """

    name: str
    start: int
    stop: int
    sampling_rate: int
    num_samples: Samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One training example; the columns and their promises stand in docs/design.md.

    `input_ids` and `labels` are int32 [T], equally long. Labels are NOT shifted (the model
    shifts, as in transformers) and are -100 outside what is supervised.
    """

    row_id: str
    task: str
    split: str
    clip_id: str
    conversation_id: str
    turn_number: int
    num_turns: int
    speaker: str
    role: Role
    clip: Clip
    transcript: str
    messages: tuple[tuple[Role, str], tuple[Role, str]]
    text: str
    input_ids: Int32
    labels: Int32
    num_tokens: Tokens
    conversation_tokens: Tokens
    target_clip: Clip | None
    traits: Traits
    domain: str | None
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """An item that became no row by a fault; listed in skipped.jsonl."""

    clip_id: str
    reason: Reason
    detail: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """An item that became no row by a rule of the config; counted by rule."""

    clip_id: str
    rule: Rule
