"""Lines of NeMo manifests as dialogues, and where their clips are: in files, or in an archive beside."""

import itertools
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Protocol

from speechrows.corpora import chats
from speechrows.corpora import traits
from speechrows.corpora.archives import Archives
from speechrows.corpora.chats.files import RecordRun
from speechrows.corpora.chats.records import Chat
from speechrows.corpora.chats.records import Message
from speechrows.corpora.entries import basename
from speechrows.corpora.nemo.records import Conversation
from speechrows.corpora.nemo.records import NemoMessage
from speechrows.corpora.nemo.records import Sound
from speechrows.corpora.nemo.records import Utterance
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.turns import checked_text
from speechrows.corpora.turns import fault_of
from speechrows.errors import BadClipError
from speechrows.types import AUDIO_TOKEN
from speechrows.types import AudioRef
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Task
from speechrows.types import Turn


class Sounds(Protocol):
    """Where the clips of a manifest are."""

    def find(self, sound: Sound) -> AudioRef:
        """A whole clip. Raises BadClipError: there is none, or it lies elsewhere."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Clips that are files."""

    names: ClipNames
    file: TableFile

    def find(self, sound: Sound) -> AudioRef:
        """A whole clip."""
        return AudioRef(path=self.names.path_of(sound.name, self.file))


@dataclass(frozen=True, kw_only=True, slots=True)
class Members:
    """Clips that are members of an archive."""

    path: str
    archives: Archives

    def find(self, sound: Sound) -> AudioRef:
        """A whole clip."""
        clip = self.archives.take(sound.member)
        audio = clip.audio if clip is not None else None
        if isinstance(audio, AudioRef):
            return audio
        if audio is not None:
            raise BadClipError(audio.reason, audio.detail)
        cut = "".join(f". It is not whole: {file.detail}" for file in self.archives.broken)
        detail = f"found no member {sound.member!a:.200} in {basename(self.path)}, expected one{cut}"
        raise BadClipError(Reason.MISSING, detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class Nowhere:
    """Clips whose archive is not there."""

    shard: int

    def find(self, sound: Sound) -> AudioRef:
        """Raises BadClipError: always."""
        detail = (
            f"found no archive audio_{self.shard}.tar of {sound.name!a:.200}, expected it beside the manifest"
        )
        raise BadClipError(Reason.MISSING, detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinePlace:
    """Where a line stands, and where its clips are."""

    record: Record
    run: RecordRun
    sounds: Sounds

    def audio(self, sound: Sound) -> AudioRef:
        """The clip that is meant.

        Raises:
            BadClipError: there is none.
        """
        if sound.wrong is not None:
            raise BadClipError(Reason.BAD_NUMBER, sound.wrong)
        return replace(self.sounds.find(sound), span=sound.span)

    def name(self, own: str | None) -> str:
        """What its conversation is called by."""
        is_repeat = self.record.number in self.run.repeats
        number = self.record.place.rpartition(":")[2]
        return f"{self.run.file.stem}:{number}" if own is None or is_repeat else own


def utterance(line: Utterance, at: LinePlace, names: ClipNames, task: Task) -> Dialogue:
    """The dialogue of an utterance: a turn, and for tasks of exchanges its answer."""
    audio, fault = None, None
    try:
        if line.text is not None:
            checked_text(line.text)
        audio = at.audio(line.sound)
    except BadClipError as error:
        fault = fault_of(error, at.record.place)
    question = Turn(
        number=0,
        speaker=line.speaker,
        role="user",
        text=line.text if isinstance(line.text, str) else "",
        audio=audio,
        traits=traits.normalise(**line.voice),
        fault=fault,
        prompt=f"{line.context} {AUDIO_TOKEN}" if line.context else None,
    )
    turns = [question]
    if task.pairing == "exchange" and line.answer is not None:
        turns.append(Turn(number=1, speaker="", role="assistant", text=line.answer, audio=None))
    split, name = at.run.file.split or "train", at.name(line.name)
    return Dialogue(
        conversation_id=f"{names.corpus.name}/{split}/{name}",
        split=split,
        domain=None,
        turns=tuple(turns),
        twin_key=None if at.run.has_evaluation else line.speaker or f"{split}/{name}",
        source=at.record.place,
    )


def conversation(talk: Conversation, at: LinePlace, names: ClipNames) -> Dialogue:
    """The dialogue of a conversation; messages of one side that follow one another are one."""
    chat = Chat(
        name=talk.name,
        messages=tuple(_messages(talk.messages, at)),
        system="\n".join(message.text for message in talk.messages if message.role is None) or None,
    )
    where = chats.Place(file=at.run.file, place=at.record.place)
    return chats.dialogue(chat, where, at.name(talk.name), names, has_evaluation=at.run.has_evaluation)


def _messages(parts: Sequence[NemoMessage], at: LinePlace) -> Iterator[Message]:
    for _, group in itertools.groupby(parts, key=lambda part: part.role):
        own = [*group]
        role = own[0].role
        if role is None:  # the system's
            continue
        heard = [part for part in own if part.sound is not None]
        yield Message(
            role=role,
            text=" ".join(part.text if part.sound is None else AUDIO_TOKEN for part in own),
            clips=tuple(_clip(part.sound, at) for part in heard if part.sound is not None),
            transcript=" ".join(filter(None, (part.text for part in heard))),
        )


def _clip(sound: Sound, at: LinePlace) -> AudioRef | Fault:
    try:
        return at.audio(sound)
    except BadClipError as error:
        return fault_of(error, at.record.place)
