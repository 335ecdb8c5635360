"""When each turn of a conversation begins, and where its clip lies in the channel of its side."""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from speechrows.audio.facts import MAX_SECONDS
from speechrows.conversations.channels import ClipForm
from speechrows.conversations.channels import PlacedClip
from speechrows.conversations.channels import form_of
from speechrows.conversations.placing import MOVED
from speechrows.conversations.placing import known_start
from speechrows.conversations.placing import places
from speechrows.conversations.turns import SpokenTurn
from speechrows.errors import BadClipError
from speechrows.types import Role

UNDECODABLE = "a clip that does not decode"
NO_TIME = "turns that begin before 0, or at no number: placed as those without a time"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Timeline:
    """A conversation in time, in two channels of one length.

    `forms` and `times_s` say of each turn what its clip is, and when it begins.
    """

    turns: Sequence[SpokenTurn]
    forms: Sequence[ClipForm]
    times_s: Sequence[float]
    channels: Mapping[Role, Sequence[PlacedClip]]
    rate_hz: int
    num_samples: int


def timeline(turns: Sequence[SpokenTurn], gap_s: float, changes: Counter[str]) -> Timeline | str:
    """The turns in time, or why they can not be; `changes` counts those that were moved.

    A turn without a time begins `gap_s` after all before it.
    """
    if None not in [known_start(turn.start_s) for turn in turns]:
        turns = sorted(turns, key=lambda turn: turn.start_s or 0.0)
    try:
        forms = [form_of(turn.clip) for turn in turns if turn.clip is not None]
    except BadClipError:
        return UNDECODABLE
    if len(forms) < len(turns):
        return "a turn without a clip"
    if len({form.rate_hz for form in forms}) > 1:
        return "clips of different sampling rates"
    channels, times = _placed(turns, forms, gap_s, changes)
    stop = max((clip.stop for clips in channels.values() for clip in clips), default=0)
    if stop > MAX_SECONDS * forms[0].rate_hz:
        return f"longer than {MAX_SECONDS // 3600} hours"
    return Timeline(
        turns=turns,
        forms=forms,
        times_s=times,
        channels=channels,
        rate_hz=forms[0].rate_hz,
        num_samples=stop,
    )


def _placed(
    turns: Sequence[SpokenTurn], forms: Sequence[ClipForm], gap_s: float, changes: Counter[str]
) -> tuple[dict[Role, list[PlacedClip]], list[float]]:
    """The clips of each side, and when each turn begins."""
    placed: dict[Role, list[PlacedClip]] = {"user": [], "assistant": []}
    sounds = [
        (turn.role, known_start(turn.start_s), form.num_samples)
        for turn, form in zip(turns, forms, strict=True)
    ]
    at = places(sounds, forms[0].rate_hz, gap_s) if forms else []
    for turn, form, place in zip(turns, forms, at, strict=True):
        assert turn.clip is not None
        placed[turn.role].append(PlacedClip(clip=turn.clip, form=form, first=place.first))
    changes[MOVED] += sum(place.is_moved for place in at)
    changes[NO_TIME] += sum(turn.start_s is not None and known_start(turn.start_s) is None for turn in turns)
    return placed, [place.start_s for place in at]


def count_inexact(forms: Sequence[ClipForm], changes: Counter[str]) -> None:
    """Count the clips of which a channel has not the very samples."""
    changes["clips of several channels: averaged"] += sum(form.num_channels > 1 for form in forms)
    changes["clips of floats or 32 bits: rounded to 24"] += sum(
        form.subtype in ("PCM_32", "FLOAT", "DOUBLE") for form in forms
    )
