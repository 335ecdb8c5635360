"""When each turn of a conversation begins, and where its clip lies in the channel of its side."""

import math
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from speechrows.audio.facts import MAX_SECONDS
from speechrows.audio.slices import to_samples
from speechrows.conversations.channels import ClipForm
from speechrows.conversations.channels import PlacedClip
from speechrows.conversations.channels import form_of
from speechrows.conversations.turns import SpokenTurn
from speechrows.errors import BadClipError
from speechrows.types import Role

UNDECODABLE = "a clip that does not decode"


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
    if None not in [_start(turn) for turn in turns]:
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
    """The clips of each side, and when each turn begins: the first at 0, where that is not told.

    One that overlaps the one before of its side begins after it: a channel has one voice.
    """
    placed: dict[Role, list[PlacedClip]] = {"user": [], "assistant": []}
    times, last = list[float](), 0
    for number, (turn, form) in enumerate(zip(turns, forms, strict=True)):
        assert turn.clip is not None
        start, rate = _start(turn), form.rate_hz
        if start is None:
            first = last + to_samples(gap_s, rate) if number else 0
            start = first / rate
        else:
            first = int(to_samples(start, rate))
        clips = placed[turn.role]
        free = clips[-1].stop if clips else 0
        if first < free - 1:  # of one sample, it is rounding
            start = free / rate
            changes["turns moved behind the one before of their side, which they overlapped"] += 1
        clips.append(PlacedClip(clip=turn.clip, form=form, first=max(first, free)))
        last = max(last, clips[-1].stop)
        times.append(start)
    return placed, times


def _start(turn: SpokenTurn) -> float | None:
    """When a turn begins; None where its row does not tell, or tells no time."""
    known = turn.start_s is not None and math.isfinite(turn.start_s) and turn.start_s >= 0
    return turn.start_s if known else None


def count_inexact(forms: Sequence[ClipForm], changes: Counter[str]) -> None:
    """Count the clips of which a channel has not the very samples."""
    changes["clips of several channels: averaged"] += sum(form.num_channels > 1 for form in forms)
    changes["clips of floats or 32 bits: rounded to 24"] += sum(
        form.subtype in ("PCM_32", "FLOAT", "DOUBLE") for form in forms
    )
