"""A line of a NeMo manifest: an utterance, or a conversation of messages in sound and text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from speechrows.corpora.tables.records import KindError
from speechrows.types import Role
from speechrows.types import Span

_SUB = re.compile(
    r"(.+)-sub\d+(\.\w+)?"
)  # what the second slice of an archive's member is called, and others
_ROLES: Mapping[str, Role | None] = {"user": "user", "assistant": "assistant", "system": None}


class ManifestError(KindError):
    """A line that is of no manifest: what was found in it, and what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """A clip by its name, with the slice that is meant; `wrong` says what is, where its times are none."""

    name: Any
    span: Span | None
    wrong: str | None = None

    @property
    def member(self) -> str:
        """The name of the archive's member that it is in."""
        name = str(self.name).removeprefix("./")
        match = _SUB.fullmatch(name)
        return match[1] + (match[2] or "") if match else name


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A clip, what is said in it, and what is answered."""

    name: str | None
    sound: Sound
    text: Any
    speaker: str
    voice: Mapping[str, Any]
    answer: str | None
    context: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NemoMessage:
    """A message of one kind: words, or a clip, whose words are its `text` where the line tells them."""

    role: Role | None  # None of a system prompt
    text: str
    sound: Sound | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Messages in their order."""

    name: str | None
    messages: tuple[NemoMessage, ...]
    is_skipped: bool


def is_utterance(record: Any) -> bool:
    """Whether a line is one of an utterance."""
    return isinstance(record, dict) and "audio_filepath" in record


def parse_utterance(record: Any) -> Utterance:
    """The utterance of a line.

    Raises:
        ManifestError: it is none.
    """
    if not is_utterance(record):
        raise ManifestError(f"found {_keys(record)}, expected an utterance with an audio_filepath")
    return Utterance(
        name=_name(record),
        sound=_sound(record["audio_filepath"], record),
        text=record.get("text"),
        speaker=str(record["speaker"]) if isinstance(record.get("speaker"), str | int) else "",
        voice={name: record.get(name) for name in ("emotion", "gender", "age", "accent")},
        answer=_words(record, "answer"),
        context=_words(record, "context", "question"),
    )


def parse_conversation(record: Any) -> Conversation:
    """The conversation of a line.

    Raises:
        ManifestError: it is none.
    """
    rows = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "type" in row for row in rows):
        raise ManifestError(f"found {_keys(record)}, expected conversations of type text and audio")
    custom = record.get("custom")
    return Conversation(
        name=_name(record),
        messages=tuple(_message(row, number) for number, row in enumerate(rows)),
        is_skipped=isinstance(custom, dict) and bool(custom.get("_skipme")),
    )


def sounds_of(record: Any) -> list[Sound]:
    """The clips that a line names; of one that is of no manifest, none."""
    try:
        if is_utterance(record):
            return [parse_utterance(record).sound]
        return [message.sound for message in parse_conversation(record).messages if message.sound is not None]
    except ManifestError:
        return []


def _message(row: Mapping[str, Any], number: int) -> NemoMessage:
    side, kind, value = str(row.get("from")).lower(), row["type"], row.get("value")
    if side not in _ROLES:
        raise ManifestError(
            f"found {row.get('from')!a:.80} as the side of message {number}, expected User or Assistant"
        )
    if kind not in ("text", "audio") or not isinstance(value, str):
        raise ManifestError(f"found {kind!a:.40} {value!a:.80} in message {number}, expected text or audio")
    if kind == "text":
        return NemoMessage(role=_ROLES[side], text=value)
    if _ROLES[side] is None:
        raise ManifestError(f"found sound in the system's message {number}, expected words")
    return NemoMessage(role=_ROLES[side], text=_words(row, "text") or "", sound=_sound(value, row))


def _sound(name: Any, record: Mapping[str, Any]) -> Sound:
    offset, seconds = record.get("offset"), record.get("duration")
    for what, value in (("offset", offset), ("duration", seconds)):
        if value is not None and not _is_time(value):
            return Sound(name=name, span=None, wrong=f"found {what} {value!a:.80}, expected seconds from 0")
    if seconds == 0:
        return Sound(name=name, span=None, wrong="found a duration of 0, expected a clip that lasts")
    if seconds is None and not offset:
        return Sound(name=name, span=None)
    return Sound(name=name, span=Span(start_s=float(offset or 0), seconds=seconds, is_all=offset is None))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _name(record: Mapping[str, Any]) -> str | None:
    value = record.get("id", record.get("utt_id"))
    return (
        str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None
    )


def _words(record: Mapping[str, Any], *names: str) -> str | None:
    return next((record[name] for name in names if isinstance(record.get(name), str)), None)


def _keys(record: Any) -> str:
    return (
        f"the keys {', '.join(map(ascii, record))!s:.200}" if isinstance(record, dict) else f"{record!a:.80}"
    )
