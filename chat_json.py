"""Chats of anyone's, in JSON, as rows: messages of sound, of text, or of both.

Read are, wherever in --data-dir, files of JSON lines (.jsonl) and of one JSON array (.json), whose
records are of any of these shapes:
  ShareGPT     {"conversations": [{"from": "human", "value": "<audio>"}, …], "audios": ["a.wav", …]}
  messages     {"messages": [{"role": "user", "content": "<audio>"}, …], "audios": ["a.wav", …]}, as
               ms-swift and LLaMA-Factory read them
  typed parts  {"messages": [{"role": "user", "content": [{"type": "audio", "audio": "a.wav"}, …]}, …]}

A clip lies beside its file, or below --audio-root. It stands where its placeholder does, on either side:
the assistant's becomes the speech of the answer. A message has one clip at most. Messages of one side
that follow one another are one. System prompts stand in `system` or in a message before the others.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechrows.builder import About
from speechrows.builder import Corpus
from speechrows.builder import Dialogue
from speechrows.builder import Entry
from speechrows.builder import Listing
from speechrows.builder import OwnDataConfig
from speechrows.builder import SpeechBuilder
from speechrows.builder import Task
from speechrows.builder import Unit
from speechrows.builder import UnreadableFile
from speechrows.builder import chats
from speechrows.builder import flag

ABOUT = About(
    title="chats in JSON",
    summary="Conversations of a user and an assistant, in sound and text, of one's own.",
    licence="other",
    licence_note="That of the data that the chats are of.",
    homepage="docs/your-data.md",
    citation="Whoever made the data.",
    languages=("und",),  # the code of a language that no one told
)


@dataclass
class ChatJsonConfig(OwnDataConfig):
    """What a person says of chats."""

    file: Sequence[str] = flag((), "a file of the folder, or a pattern of their paths; repeatable")


class ChatJsonReader:
    """Reads chats. A unit is a run of records of a file."""

    def __init__(self, corpus: Corpus, config: ChatJsonConfig, task: Task) -> None:  # noqa: ARG002
        self._names, self._patterns = config.clip_names(corpus), config.file
        self._stream = chats.RecordStream(corpus)

    def units(self, entries: list[Entry]) -> Listing[chats.RecordRun]:
        """The runs of every file of chats."""
        return chats.list_records(self._names, entries, self._patterns, _look, "chats")

    def dialogues(self, unit: Unit[chats.RecordRun]) -> Iterator[Dialogue | UnreadableFile]:
        """The chats of a unit; a record that is none is told by its line."""
        run = unit.payload
        for record in self._stream.read(run):
            if isinstance(record, UnreadableFile):
                yield record
                continue
            try:
                if record.fault is not None:
                    raise chats.ChatError(record.fault.detail)
                chat = chats.parse_chat(record.cells)
            except chats.ChatError as error:
                yield UnreadableFile(file=record.place, detail=str(error))
                continue
            where = chats.Place(file=run.file, place=record.place)
            own = None if record.number in run.repeats else chat.name
            name = own or f"{run.file.stem}:{record.place.rpartition(':')[2]}"
            yield chats.dialogue(chat, where, name, self._names, has_evaluation=run.has_evaluation)


def _look(record: Any) -> chats.Named:
    """What a record names: itself, and its clips."""
    chat = chats.parse_chat(record.cells)
    clips = [(clip, 1.0) for message in chat.messages for clip in message.clips if isinstance(clip, str)]
    return chats.Named(chat.name, clips)


class ChatJson(SpeechBuilder):
    """Chats of anyone's as training rows."""

    ABOUT = ABOUT
    READER = ChatJsonReader
    BUILDER_CONFIG_CLASS = ChatJsonConfig
    BUILDER_CONFIGS = [ChatJsonConfig(name="chat")]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "chat"
