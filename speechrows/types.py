"""The nouns of speechrows: frozen dataclasses that cross rooms.

Shapes, one legend for the whole project: B rows of a batch, N clips, T tokens, S samples,
F frames, K codebooks, M mel bins.

This file is longer than 300 lines: whoever looks for a noun looks here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from enum import StrEnum
from typing import Literal
from typing import NewType
from typing import Protocol

import numpy as np
import numpy.typing as npt

Samples = NewType("Samples", int)
Frames = NewType("Frames", int)
Tokens = NewType("Tokens", int)

Role = Literal["user", "assistant"]
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]

IGNORE_INDEX = -100  # a label that takes no loss, as in torch and transformers
PROMPT = "{prompt}"  # in a task's segments: a user's message that is the corpus' own, text, a clip, or both
AUDIO_TOKEN = "<audio>"  # a message's clip; in text and ids too, unless a model has a token of its own


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A part of a recording: `seconds` from `start_s` on; None for all the rest."""

    start_s: float
    seconds: float | None = None
    is_all: bool = False  # of the recording, as the corpus says: where that is longer, it is counted


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioRef:
    """Where a clip's bytes are, or the bytes themselves; never samples.

    `path` is relative to the corpus folder. A clip without a file of its own, an archive's member or a
    parquet cell, is named below the file that holds it and has its bytes in `data`: streams are read once.
    `channel`, from 0, is set where a corpus records one speaker on it and another on the next: of the file,
    the clip is this channel alone. `span` is set where the file is a recording of many turns: of it, the
    clip is this slice. `following` are clips that are joined to this one.
    """

    path: str
    channel: int | None = None
    span: Span | None = None
    data: bytes | memoryview | None = field(default=None, compare=False, repr=False)
    following: tuple["Following", ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Following:
    """A clip that begins `after_s` seconds after the begin of the one that it is joined to."""

    audio: AudioRef
    after_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Codes:
    """A clip as codes of a neural codec or a unit extractor.

    `codec` is a name of codec.CODECS; `values` is int16 [K, F].
    """

    codec: str
    values: Int16 = field(compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """How a clip is spoken, normalised by traits.py; None where unknown.

    `unknown` are the corpus' words that no table of traits.py has, as "emotion: bored": the ledger counts
    them.
    """

    emotion: str | None = None
    gender: str | None = None
    age: str | None = None
    volume: str | None = None
    pace: str | None = None
    accent: str | None = None
    unknown: tuple[str, ...] = ()


TRAITS = ("emotion", "gender", "age", "volume", "pace", "accent")  # of a row's columns too


class Reason(StrEnum):
    """The fault of the corpus for which an item became no row."""

    MISSING = "missing"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    ZERO_SAMPLES = "zero_samples"
    NO_CHANNEL = "no_channel"
    NEEDS_DECODE = "needs_extra_decode"  # `pip install "speechrows[decode]"`
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    REFUSED_PATH = "refused_path"
    BAD_NUMBER = "bad_number"
    BAD_SPEAKER = "bad_speaker"
    BAD_TEXT = "bad_text"
    EMPTY_TEXT = "empty_text"
    METADATA_DISAGREES = "metadata_disagrees"
    BAD_CODES = "bad_codes"
    NOT_ROUND_TRIP = "not_round_trip"
    DIALOGUE_INCOMPLETE = "dialogue_incomplete"


class Rule(StrEnum):
    """The rule of a config by which an item without fault became no row."""

    NO_ANSWER = "no_answer"
    NO_CODES = "no_codes"
    OTHER_MODE = "other_mode"  # an answer of another kind than this config's
    IMPOSSIBLE = "impossible_question"
    SAME_SPEAKER = "same_speaker_twice"  # in a row, where a task needs speakers that alternate
    TOO_LONG = "too_long"  # for the task's cap on tokens
    CLIP_TOO_LONG = "clip_too_long"  # for --max-seconds
    CLIP_TOO_SHORT = "clip_too_short"
    MERGED = "merged"  # a segment that became part of the turn before it


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A fault of a turn. `detail` says what was found and what was expected."""

    reason: Reason
    detail: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One speaker's clip in a dialogue.

    `number` is the turn's place, from 0, as the corpus numbers it (corpora that count from 1
    are shifted). `role` is None only where `fault` says why. A turn without audio and
    without fault is a text-only answer.

    `prompt` is the user's message of a chat, where it is more than the clip: words with `<audio>` in them.
    `start_s` is when it begins, in seconds of the conversation's own time; None where the corpus tells none.
    `answer` is the reply to this clip alone, the corpus' own or a generated one; `answer_is_cut` where
    its end was never written. `codes` are those of this clip. `left_out` is the rule by which this turn
    is no row's clip although it has no fault.
    """

    number: int
    speaker: str
    role: Role | None
    text: str
    audio: AudioRef | None
    traits: Traits = Traits()
    fault: Fault | None = None
    answer: str | None = None
    answer_is_cut: bool = False
    codes: Codes | None = None
    left_out: Rule | None = None
    prompt: str | None = None
    start_s: float | None = None

    @property
    def message(self) -> str:
        """What a user says in a chat: `<audio>` for a clip, words for a turn of text, or both."""
        if self.prompt is not None:
            return self.prompt
        return self.text if self.audio is None else AUDIO_TOKEN


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialogue:
    """A conversation in turn order.

    `twin_key` is shared by renderings of the same texts (two text-to-speech versions of one dialogue) or
    by clips of one speaker: its stable hash decides the split, so that twins lie in the same one. None
    where the corpus has an evaluation split of its own. `source` is the corpus file, relative, that
    describes the dialogue. `system` is its own system prompt, if the corpus has one.
    """

    conversation_id: str
    split: str
    domain: str | None
    turns: tuple[Turn, ...]
    twin_key: str | None
    source: str
    system: str | None = None

    def clip_id(self, turn: Turn) -> str:
        """The name of a turn's clip, whatever the task and split: generated columns join on it."""
        return f"{self.conversation_id}/{turn.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreadableFile:
    """A metadata file that could not be read: it has no items, so it is counted as a file.

    A remark reports something odd that lost nothing: it is listed, and not counted as a fault.
    """

    file: str
    detail: str
    is_remark: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A piece of a task's text.

    `text` holds `<audio>`, or {transcript} {answer} {prompt} {units} {answer_units}, which a row fills in;
    `supervised`: its tokens take loss (in a chat task, the end-of-turn token after them too). Only
    segments of chat tasks have a role.
    """

    text: str
    supervised: bool
    role: Role | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a model learns from a row: everything that rows.py needs to know of a task.

    `asks` says in words what a model is asked to do. `pairing`: a row is a `turn`; an `exchange`, a user's
    turn and its answer; or `both`, any two turns that follow one another. `codec_targets` says whose codes
    become the column of that name.
    """

    name: str
    asks: str
    pairing: Literal["turn", "exchange", "both"]
    segments: tuple[Segment, ...]
    whole: bool = False  # promises whole conversations: turns 0..num_turns-1 all present
    lower_case: bool = False
    pad_to_multiple_of: int = 1
    banded: bool = False  # written in bands of conversation_tokens, for the curriculum
    codec_targets: Literal["turn", "answer"] | None = None
    needs: Literal["answer", "codes", "units"] | None = None  # of each clip, from the corpus or generated
    max_tokens: int | None = None  # longer rows are left out

    @property
    def takes_text(self) -> bool:
        """Whether users' messages are the corpus' own: rows may be of text alone."""
        return self.segments[0].text == PROMPT


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip that was read and checked: its bytes `[start, stop)` of the clip buffer, and its header.

    `name` is a file name with the true extension; `num_samples` counts frames a channel. `made_from` is what
    the clip was, where ffmpeg decoded it and FLAC is stored.
    """

    name: str
    start: int
    stop: int
    sampling_rate: int
    num_samples: Samples
    made_from: str | None = None
    is_cut_short: bool = False  # its file is longer than the corpus says


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One training example; the columns and their promises stand in docs/design.md.

    `input_ids` and `labels` are int32 [T], equally long. Labels are NOT shifted (the model
    shifts, as in transformers) and are -100 outside what is supervised. A row of text alone has no clip.
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
    clip: Clip | None
    transcript: str
    messages: tuple[tuple[Role, str], tuple[Role, str]]
    text: str
    input_ids: Int32
    labels: Int32
    num_tokens: Tokens
    conversation_tokens: Tokens
    target_clip: Clip | None
    codes: Codes | None
    traits: Traits
    domain: str | None
    source: str
    system: str | None = None
    start_s: float | None = None


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """What a row puts into the segments of its task, as the corpus has it; units are int16 [F].

    `number` says which turn of its conversation it is, from 0, and `last` whether it is the last: 0 and true,
    where rows are no conversations. `system` is the conversation's system prompt, normalised: the first row
    is written with it. `prompt` is what a user's own message says, with `<audio>` where there is a clip;
    `clips_before` counts those of earlier turns, as many as there are turns where it is None.
    """

    transcript: str
    answer: str = ""
    units: Int16 | None = None
    answer_units: Int16 | None = None
    answer_is_cut: bool = False
    number: int = 0
    last: bool = True
    system: str | None = None
    prompt: str = AUDIO_TOKEN
    clips_before: int | None = None


class Rendered(Protocol):
    """A row's text and tokens, but for the length of its audio."""

    @property
    def target(self) -> str:
        """What the assistant says, as the row's messages hold it."""
        ...

    def num_tokens(self, num_audio_tokens: int) -> int:
        """The length before padding."""
        ...

    def assemble(self, num_audio_tokens: int, *, length: int) -> tuple[Int32, Int32]:
        """`input_ids` and `labels`, int32 [length], padded on the right."""
        ...

    def text(self) -> str:
        """The text."""
        ...


class Template(Protocol):
    """A task's segments, compiled for a tokenizer: a chat template (chat.py) or pieces (segments.py)."""

    @property
    def user(self) -> str:
        """The user's message, with `<audio>`."""
        ...

    def fill(self, rows: Sequence[Fields]) -> Sequence[Rendered | None]:
        """Rows to be, in one batch; None where the tokenizer does not give a text back."""
        ...
