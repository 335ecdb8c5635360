"""A conversation as lhotse's cuts: when each turn begins, in which channel, and what a cut's record says."""

import itertools
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from speechrows.conversations.channels import ClipForm
from speechrows.conversations.channels import flac_of
from speechrows.conversations.timeline import UNDECODABLE
from speechrows.conversations.timeline import Timeline
from speechrows.conversations.timeline import count_inexact
from speechrows.conversations.timeline import timeline
from speechrows.conversations.turns import Conversation
from speechrows.conversations.turns import SpokenTurn
from speechrows.errors import BadClipError
from speechrows.types import Role

USER, ASSISTANT = "recording", "target_audio"  # the fields of a cut
_FIELD_OF: Mapping[Role, str] = {"user": USER, "assistant": ASSISTANT}
_SPEAKER_OF = {"user": "user", "assistant": "agent"}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Channel:
    """Sound of a cut."""

    flac: bytes
    rate_hz: int
    num_samples: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cut:
    """A cut: its channels by field, and what is said in them, as lhotse's supervisions.

    `name` is that of its files, unique over the export; `id` is lhotse's.
    """

    id: str
    name: str
    channels: Mapping[str, Channel]
    supervisions: list[dict[str, Any]]
    custom: dict[str, Any]

    def recording(self, field: str, source: dict[str, Any]) -> dict[str, Any] | None:
        """A channel as lhotse's Recording, that lies at `source`; None where there is none."""
        channel = self.channels.get(field)
        if channel is None:
            return None
        return {
            "id": self.id,
            "sources": [source],
            "sampling_rate": channel.rate_hz,
            "num_samples": channel.num_samples,
            "duration": channel.num_samples / channel.rate_hz,
            "channel_ids": [0],
        }

    def record(self, recordings: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
        """The cut as a line of lhotse's."""
        heard = recordings[USER]
        assert heard is not None
        target = recordings.get(ASSISTANT)
        return {
            "id": self.id,
            "start": 0,
            "duration": heard["duration"],
            "channel": 0,
            "supervisions": self.supervisions,
            "recording": heard,
            "custom": {**self.custom, **({} if target is None else {ASSISTANT: target})},
            "type": "MonoCut",
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CutMaker:
    """Makes cuts of conversations, whole or turn by turn; `changes` counts what becomes none, and why.

    A turn without a time begins `gap_s` after all before it.
    """

    gap_s: float
    by_turn: bool
    changes: Counter[str]

    def cuts(self, conversation: Conversation, name: str) -> Iterator[Cut]:
        """The cuts of a conversation; their files are called by `name`.

        By turn, an exchange whose answer is heard is a small conversation; another is the user's clip, with
        the answer in `custom`.
        """
        if not self.by_turn:
            yield from self._cut(conversation, name, _FIELD_OF, {})
            return
        for number, (_, group) in enumerate(itertools.groupby(conversation.turns, lambda turn: turn.row)):
            turns = tuple(replace(turn, start_s=None) for turn in group)
            answer = turns[1] if len(turns) == 2 else None
            part = replace(conversation, id=f"{conversation.id}/{number}", turns=turns)
            if answer is not None and answer.clip is not None:
                yield from self._cut(part, f"{name}-{number}", _FIELD_OF, {})
            else:
                part = replace(part, turns=turns[:1])
                custom = {} if answer is None else {"answer": answer.text}
                yield from self._cut(part, f"{name}-{number}", {turns[0].role: USER}, custom)

    def _cut(
        self, conversation: Conversation, name: str, fields: Mapping[Role, str], custom: Mapping[str, Any]
    ) -> Iterator[Cut]:
        """The cut of turns, those of a side in the channel of its field; none where it can not be."""
        talk = timeline(conversation.turns, self.gap_s, self.changes)
        try:
            channels = {} if isinstance(talk, str) else _channels(talk, fields)
        except BadClipError:
            talk, channels = UNDECODABLE, {}
        if isinstance(talk, str):
            self.changes[f"{'turns' if self.by_turn else 'conversations'} left out: {talk}"] += 1
            return
        count_inexact(talk.forms, self.changes)
        cut_id = _cut_id(conversation.id, name)
        supervisions = [
            _supervision(cut_id, number, turn, start, form)
            for number, (turn, start, form) in enumerate(
                zip(talk.turns, talk.times_s, talk.forms, strict=True)
            )
        ]
        custom = {**_custom(conversation), **custom}
        yield Cut(id=cut_id, name=name, channels=channels, supervisions=supervisions, custom=custom)


def _channels(talk: Timeline, fields: Mapping[Role, str]) -> dict[str, Channel]:
    """The sound of each side, by the field that it has in a cut."""
    return {
        field: Channel(
            flac=flac_of(talk.channels[role], talk.num_samples, talk.rate_hz),
            rate_hz=talk.rate_hz,
            num_samples=talk.num_samples,
        )
        for role, field in fields.items()
    }


def _supervision(
    cut_id: str, number: int, turn: SpokenTurn, start_s: float, form: ClipForm
) -> dict[str, Any]:
    traits = {name: value for name, value in turn.traits.items() if name != "gender"}
    record: dict[str, Any] = {
        "id": f"{cut_id}-{number}",
        "recording_id": cut_id,
        "start": start_s,
        "duration": form.num_samples / form.rate_hz,
        "channel": 0,
        "text": turn.text,
        "speaker": _SPEAKER_OF[turn.role],
    }
    record |= {"gender": turn.traits["gender"]} if "gender" in turn.traits else {}
    custom = {**({"speaker": turn.speaker} if turn.speaker else {}), **traits}
    return record | ({"custom": custom} if custom else {})


def _custom(conversation: Conversation) -> dict[str, Any]:
    custom = {"conversation_id": conversation.id}
    return custom | ({} if conversation.system is None else {"system_prompt": conversation.system})


def _cut_id(wanted: str, name: str) -> str:
    """The id of a cut: as wanted, where lhotse finds it again by the name of a file; else its number."""
    path = PurePosixPath(f"{wanted}.flac")
    is_kept = str(path.parent / path.stem) == wanted and "\0" not in wanted
    return wanted if is_kept else name
