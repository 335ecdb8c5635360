"""A record of a chat -> its messages, whichever of the usual shapes it has.

ShareGPT         {"conversations": [{"from": "human", "value": "<audio>…"}, …], "audios": [path, …]}
ms-swift, LLaMA-Factory
                 {"messages": [{"role": "user", "content": "<audio>…"}, …], "audios": [path, …]}
OpenAI           {"messages": [{"role": "user", "content": [{"type": "audio", "audio": path}, …]}, …]}
"""

import base64
import binascii
import itertools
import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechrows.corpora.tables.records import KindError
from speechrows.types import AUDIO_TOKEN
from speechrows.types import AudioRef
from speechrows.types import Fault
from speechrows.types import Role

LISTS = ("messages", "conversations", "conversation")  # the keys of a record's messages
_AUDIOS = ("audios", "audio", "sounds", "sound", "ori_sound", "speech")  # of its clips
_NAMES = ("id", "sample_id", "conversation_id")
_ROLES: Mapping[str, Role | None] = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "agent", "chatgpt"), "assistant"),
    **dict.fromkeys(("system", "developer"), None),
}
_PLACEHOLDER = re.compile(r"<audio>|<sound>|<speech>|<\|audio\|>|<\|AUDIO\|>")
_DATA_URL = re.compile(r"data:[\w/.+-]*;base64,(.*)", re.DOTALL)


class ChatError(KindError):
    """A record that is no chat: what was found in it, and what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What one side says: `text` has `<audio>` in the place of each of the `clips`.

    A clip is its name, its bytes, or where it is, if that was looked up, with a Fault where it is nowhere.
    """

    role: Role
    text: str
    clips: tuple[str | bytes | AudioRef | Fault, ...] = ()
    transcript: str = ""  # of its clips, where the record tells it


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    """A conversation: messages of user and assistant by turns, and the system prompt before them."""

    name: str | None
    messages: tuple[Message, ...]
    system: str | None = None


def parse_chat(record: Any) -> Chat:
    """The chat of a record. Messages of one side that follow one another are one, a line each.

    Raises:
        ChatError: it is none.
    """
    key = next((key for key in LISTS if isinstance(record, dict) and record.get(key)), None)
    if key is None or not isinstance(record[key], list):
        content = f"the keys {', '.join(map(ascii, record))}" if isinstance(record, dict) else f"{record!a}"
        raise ChatError(f"found {content:.200}, expected a list of {' or '.join(LISTS[:2])}")
    given = next((record[name] for name in _AUDIOS if record.get(name)), [])
    given = given if isinstance(given, list) else [given]
    written = [_written(row, number) for number, row in enumerate(record[key])]
    messages = [message for message in written if isinstance(message, Message)]
    systems = [text for text in written if isinstance(text, str)]
    if systems and len(written) > 1 and isinstance(written[0], Message):
        raise ChatError("found a system message behind others, expected it to be the first")
    return Chat(
        name=next((str(record[name]) for name in _NAMES if isinstance(record.get(name), str | int)), None),
        messages=tuple(_joined(_with_clips(messages, [_clip(value) for value in given]))),
        system="\n".join([*filter(None, [_system(record)]), *systems]) or None,
    )


def _system(record: Mapping[str, Any]) -> str | None:
    system = record.get("system")
    if system is not None and not isinstance(system, str):
        raise ChatError(f"found system {system!a:.80}, expected a text")
    return system


def _written(row: Any, number: int) -> Message | str:
    """A message as it is written; a system prompt is its text."""
    if not isinstance(row, dict):
        raise ChatError(f"found {row!a:.80} as message {number}, expected an object of role and content")
    role, content = row.get("role", row.get("from")), row.get("content", row.get("value", row.get("text")))
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise ChatError(f"found role {role!a:.80} of message {number}, expected one of {', '.join(_ROLES)}")
    if row.get("type") == "audio":
        raise ChatError(
            f"found the clip {content!a:.80} as message {number}, as NeMo has it: nemo_manifest reads it"
        )
    side = _ROLES[role.lower()]
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    is_typed = isinstance(content, list)
    texts, clips, transcripts = list[str](), list[str | bytes](), list[str]()
    for part in parts:
        text, clip, transcript = _part(part, number, is_typed=is_typed)
        texts.append(text)
        clips += [] if clip is None else [clip]
        transcripts += filter(None, [transcript])
    if side is None:
        return "".join(texts)
    return Message(role=side, text="".join(texts), clips=tuple(clips), transcript=" ".join(transcripts))


def _part(part: Any, number: int, *, is_typed: bool) -> tuple[str, str | bytes | None, str | None]:
    """A part of a message: its text, or the audio token with its clip and what is said in it."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        if is_typed and AUDIO_TOKEN in part["text"]:
            raise ChatError(
                f"found {AUDIO_TOKEN} spelled in a part of text of message {number}, expected words"
            )
        return part["text"], None, None
    if kind in ("audio", "input_audio", "audio_url"):
        value = next(
            (part[name] for name in (kind, "audio", "audio_url", "path", "url") if part.get(name)), None
        )
        transcript = part.get("text") or part.get("transcript")
        return AUDIO_TOKEN, _clip(value), transcript if isinstance(transcript, str) else None
    what = f"a part of type {kind!a:.40}" if is_typed else f"{part.get('text')!a:.80}"
    raise ChatError(f"found {what} in message {number}, expected a text, or parts of text and audio")


def _clip(value: Any) -> str | bytes:
    """A clip: its name, or its bytes where the record holds them."""
    if isinstance(value, dict):
        data = value.get("data") or value.get("bytes")
        value = (data and f"data:;base64,{data}") or value.get("path") or value.get("url")
    if not isinstance(value, str) or not value.strip():
        raise ChatError(f"found {value!a:.80} in place of a clip, expected the path of a file")
    match = _DATA_URL.fullmatch(value)
    if match is None:
        return value.strip().removeprefix("file://")
    try:
        return base64.b64decode(match[1], validate=True)
    except binascii.Error as error:
        raise ChatError(f"found a clip that is no base64 ({error}), expected its bytes") from error


def _with_clips(messages: Sequence[Message], clips: Sequence[str | bytes]) -> Iterator[Message]:
    """Messages with the record's own clips, in the order of their placeholders."""
    if not clips:
        yield from messages
        return
    counts = [len(_PLACEHOLDER.findall(message.text)) for message in messages]
    if not sum(counts) and len(clips) == 1:  # as ms-swift reads it: before the first message of the user
        first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
        messages = [
            _replaced(message, AUDIO_TOKEN + message.text) if i == first else message
            for i, message in enumerate(messages)
        ]
        counts = [int(i == first) for i in range(len(messages))]
    if sum(counts) != len(clips):
        raise ChatError(f"found {len(clips)} clips and {sum(counts)} placeholders, expected one for each")
    rest = iter(clips)
    for message, count in zip(messages, counts, strict=True):
        text = _PLACEHOLDER.sub(AUDIO_TOKEN, message.text)
        yield _replaced(message, text, tuple(itertools.islice(rest, count)) or message.clips)


def _replaced(message: Message, text: str, clips: tuple[str | bytes | AudioRef | Fault, ...] = ()) -> Message:
    return Message(role=message.role, text=text, clips=clips, transcript=message.transcript)


def _joined(messages: Iterator[Message]) -> Iterator[Message]:
    """Messages of one side that follow one another as one."""
    for _, group in itertools.groupby(messages, key=lambda message: message.role):
        own = [*group]
        yield Message(
            role=own[0].role,
            text="\n".join(message.text for message in own),
            clips=tuple(clip for message in own for clip in message.clips),
            transcript=" ".join(filter(None, (message.transcript for message in own))),
        )
