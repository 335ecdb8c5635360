"""A chat -> a dialogue: its messages as turns, of sound, of text, or of both."""

from dataclasses import dataclass

from speechrows.corpora.chats.records import Chat
from speechrows.corpora.chats.records import Message
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.turns import checked_text
from speechrows.corpora.turns import fault_of
from speechrows.errors import BadClipError
from speechrows.types import AUDIO_TOKEN
from speechrows.types import AudioRef
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a chat stands: its file, and its line or number there, in words."""

    file: TableFile
    place: str


def dialogue(chat: Chat, where: Place, name: str, names: ClipNames, *, has_evaluation: bool) -> Dialogue:
    """The dialogue of a chat that is called `name`; `has_evaluation`, where data have their own splits."""
    split = where.file.split or "train"
    turns = [_turn(number, message, where, names) for number, message in enumerate(chat.messages)]
    return Dialogue(
        conversation_id=f"{names.corpus.name}/{split}/{name}",
        split=split,
        domain=None,
        turns=tuple(turns),
        twin_key=None if has_evaluation else name,
        source=where.place,
        system=chat.system,
    )


def _turn(number: int, message: Message, where: Place, names: ClipNames) -> Turn:
    audio, fault, text = None, None, message.text
    try:
        checked_text(text)
        if len(message.clips) > 1:
            detail = (
                f"found {len(message.clips)} clips in message {number}, expected one at most: a row has one"
            )
            raise BadClipError(Reason.METADATA_DISAGREES, detail)
        if message.clips:
            audio = _audio(number, message.clips[0], where, names)
    except BadClipError as error:
        fault = fault_of(error, where.place)
    is_user = message.role == "user"
    prompt = text if is_user and audio is not None else None
    if audio is not None:
        text = message.transcript if is_user else text.replace(AUDIO_TOKEN, "").strip() or message.transcript
    return Turn(
        number=number,
        speaker=message.role,
        role=message.role,
        text=text,
        audio=audio,
        fault=fault,
        prompt=prompt,
    )


def _audio(number: int, clip: str | bytes | AudioRef | Fault, where: Place, names: ClipNames) -> AudioRef:
    if isinstance(clip, AudioRef):
        return clip
    if isinstance(clip, Fault):
        raise BadClipError(clip.reason, clip.detail)
    if isinstance(clip, bytes):
        return AudioRef(path=f"{where.place}/{number}", data=clip)
    return AudioRef(path=names.path_of(clip, where.file))
