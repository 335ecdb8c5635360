"""Chats as LLaMA-Factory and ms-swift read them: `<split>.jsonl`, its clips, and dataset_info.json.

LLaMA-Factory takes a chat only where user and assistant alternate, the user first and the assistant last, and
where as many clips are listed as its messages spell `<audio>`.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from speechrows.conversations.records import Record
from speechrows.conversations.records import Sound
from speechrows.conversations.turns import COLUMNS
from speechrows.conversations.turns import SpokenTurn
from speechrows.conversations.turns import answered
from speechrows.conversations.turns import conversations
from speechrows.interop import engine
from speechrows.interop.joined import joined
from speechrows.interop.options import ShareGptOptions
from speechrows.interop.out_folder import STATE
from speechrows.interop.parts import Part
from speechrows.interop.summary import Tally
from speechrows.types import AUDIO_TOKEN

_INFO = "dataset_info.json"
_MEDIA = re.compile("<(audio|image|video)>")  # what both peers count in a text
_MAX_ROWS = 5000  # of a part, whose clips lie in one folder: two a row
_FACTS = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "audios": "audios"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}


def export(folder: str, out: Path, options: ShareGptOptions) -> list[str]:
    """Write `<split>.jsonl`, the clips below audio/, and dataset_info.json; lines that say what was written.

    Raises:
        UsageError: there is no such config, or the folder `out` has other files.
    """
    write = partial(_write, options)
    fmt = engine.Format(name="sharegpt", write=write, finish=_finish, columns=COLUMNS, max_rows=_MAX_ROWS)
    return engine.export(folder, out, options, fmt)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Message:
    """What one side says, and the clips that stand in it, by the row and role of their turns."""

    role: str
    content: str
    clips: tuple[tuple[SpokenTurn, Sound], ...]


def _write(options: ShareGptOptions, part: Part, records: Iterator[Record], into: Path) -> Tally:
    """Write the clips of a part, and the lines of its conversations."""
    tally, folder = Tally(), f"audio/{part.name}"
    (into / folder).mkdir(parents=True)
    (into / STATE).mkdir()
    with (into / STATE / f"{part.name}.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
        for conversation in conversations(records):
            turns = answered(conversation, tally.changes)
            messages = _messages(conversation.system, turns, options, tally.changes)
            if messages is None:
                continue
            paths = list[str]()
            for turn, clip in (clip for message in messages for clip in message.clips):
                suffix = "" if turn.role == "user" else "-answer"
                paths.append(f"{folder}/{part.name_of(turn.row)}{suffix}.{clip.extension}")
                (into / paths[-1]).write_bytes(clip.data)
            written = [{"role": message.role, "content": message.content} for message in messages]
            record = {"id": conversation.id, "messages": written, "audios": paths}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            clips = [turn for message in messages for turn, _ in message.clips]
            tally.count(len(turns), sum(turn.seconds for turn in clips))
    return tally


def _messages(
    system: str | None, turns: Sequence[SpokenTurn], options: ShareGptOptions, changes: Counter[str]
) -> list[_Message] | None:
    """The messages of turns, those of one side that follow one another as one; None where there are none.

    None, too, where one spells `<audio>` and that is to be refused.
    """
    messages = list[_Message]()
    spelled = 0
    for role, group in itertools.groupby(turns, key=lambda turn: turn.role):
        parts = [_part(turn, options) for turn in group]
        spelled += sum(number for _, _, number in parts)
        changes["turns joined to the one before, of the same side"] += len(parts) - 1
        clips = tuple(clip for _, own, _ in parts for clip in own)
        messages.append(_Message(role=role, content="\n".join(text for text, *_ in parts), clips=clips))
    if system is not None and messages:
        text, number = _plain(system)
        spelled += number
        messages.insert(0, _Message(role="system", content=text, clips=()))
    if spelled and options.spelled == "refuse":
        changes["conversations left out: words spell <audio>, <image> or <video>"] += 1
        return None
    changes["words replaced: <audio>, <image> or <video>"] += spelled
    if not options.answer_audio:
        changes["answers' clips not written"] += sum(
            turn.role == "assistant" and turn.clip is not None for turn in turns
        )
    return messages or None


def _part(turn: SpokenTurn, options: ShareGptOptions) -> tuple[str, list[tuple[SpokenTurn, Sound]], int]:
    """What a turn says, with `<audio>` in the place of its clip; its clip; how often it spells one."""
    if turn.clip is None or (turn.role == "assistant" and not options.answer_audio):
        text, spelled = _plain(turn.message)
        return text, [], spelled
    message = turn.message if turn.role == "user" else AUDIO_TOKEN + turn.message
    before, _, after = message.partition(AUDIO_TOKEN)
    (before, spelled), (after, more) = _plain(before), _plain(after)
    return f"{before}{AUDIO_TOKEN}{after}", [(turn, turn.clip)], spelled + more


def _plain(text: str) -> tuple[str, int]:
    """Words that spell no media, and how often they did."""
    return _MEDIA.subn(r"[\1]", text)


def _finish(out: Path, parts: Sequence[Part]) -> None:
    """Give the lines of each split their place, and write what LLaMA-Factory knows data sets by."""
    info = dict[str, Any]()
    for split, lines in joined(out, parts):
        path = out / f"{split}.jsonl"
        lines.replace(path)
        info[split] = {"file_name": path.name, **_FACTS}
    (out / _INFO).write_text(json.dumps(info, indent=1) + "\n", "utf-8")
