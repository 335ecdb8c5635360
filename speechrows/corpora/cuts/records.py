"""A record of lhotse's -> a cut: when it begins in which recordings, and who says what in it, and when.

MonoCut and MultiCut are one track; MixedCut are several, each with the time at which it begins. A recording
with its supervisions is a cut that is all of it.
"""

import math
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechrows.corpora.tables.records import KindError

_DATA = ("MonoCut", "MultiCut", "Cut")  # the last is MonoCut's older name
TARGET = "target_audio"  # what lhotse and NeMo call the answer's speech
_ANSWERS = ("answer", "response")  # of custom fields
_SYSTEMS = ("system_prompt", "system")


class CutError(KindError):
    """A record that is no cut: what was found in it, and what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where some channels of a recording lie: `kind` is file, shar (an archive), url, command."""

    kind: str
    place: Any
    channels: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """A recording; `effects` are those that lhotse would apply whenever it reads it."""

    sources: tuple[Source, ...]
    rate: int | None
    seconds: float
    effects: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Supervision:
    """What one speaker says; times are those of its track. `wrong` says what is, where they are no times."""

    start_s: float
    seconds: float
    channels: tuple[int, ...]
    text: Any
    speaker: str
    voice: Mapping[str, Any]
    answer: Any
    wrong: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """A part of a recording in a cut that begins at `offset_s` of the cut."""

    offset_s: float
    start_s: float
    seconds: float
    channels: tuple[int, ...]
    recording: Recording | None
    supervisions: tuple[Supervision, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A cut. `target` is the answer's speech, as long as the cut or an answer alone."""

    name: str
    tracks: tuple[Track, ...]
    effects: tuple[str, ...]
    target: Recording | None = None
    answer: Any = None
    system: str | None = None


def parse_cut(record: Any) -> Cut:
    """The cut of a record.

    Raises:
        CutError: it is none.
    """
    if not isinstance(record, dict) or record.get("type") not in (*_DATA, "MixedCut"):
        content = f"type {record.get('type')!a:.80}" if isinstance(record, dict) else f"{record!a:.80}"
        raise CutError(f"found {content}, expected a cut: {', '.join(_DATA[:2])} or MixedCut")
    name = record.get("id")
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise CutError(f"found id {name!a:.80}, expected the cut's name")
    rows = record.get("tracks") if record["type"] == "MixedCut" else [{"cut": record}]
    if not isinstance(rows, list):
        raise CutError(f"found tracks {rows!a:.80}, expected a list")
    cuts = [row.get("cut") if isinstance(row, dict) else None for row in rows]
    heard = [
        (row, cut) for row, cut in zip(rows, cuts, strict=True) if isinstance(cut, dict) and _heard(row, cut)
    ]
    if not heard:
        raise CutError("found no track with sound, expected one")
    tracks = tuple(_track(row, cut) for row, cut in heard)
    custom = _mapping(heard[0][1].get("custom"))
    target = custom.get(TARGET)
    return Cut(
        name=str(name),
        tracks=tracks,
        effects=tuple(_effects(record if record["type"] == "MixedCut" else {}, rows)),
        target=_recording(target) if isinstance(target, dict) and "sources" in target else None,
        answer=_first(custom, _ANSWERS),
        system=_first(custom, _SYSTEMS),
    )


def of_recording(record: Mapping[str, Any], supervisions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cut that is all of a recording, with its supervisions, as lhotse writes one."""
    channels = record.get("channel_ids") or [
        channel for source in record.get("sources") or [] for channel in source.get("channels") or []
    ]
    return {
        "id": record.get("id"),
        "start": 0,
        "duration": record.get("duration"),
        "channel": channels,
        "supervisions": supervisions,
        "recording": record,
        "type": "MultiCut",
    }


def is_recording(record: Any) -> bool:
    """Whether it is a recording."""
    return (
        isinstance(record, dict) and "type" not in record and {"id", "sources", "duration"} <= record.keys()
    )


def is_supervision(record: Any) -> bool:
    """Whether it is a supervision."""
    return isinstance(record, dict) and {"recording_id", "start", "duration"} <= record.keys()


def files_of(recording: Recording | None) -> Iterator[Any]:
    """The files that a recording names."""
    for source in recording.sources if recording else ():
        if source.kind == "file":
            yield source.place


def _heard(track: Any, cut: Mapping[str, Any]) -> bool:
    return track.get("type", cut.get("type")) != "PaddingCut" and not track.get("mute")


def _track(row: Mapping[str, Any], cut: Mapping[str, Any]) -> Track:
    recording, supervisions = cut.get("recording"), cut.get("supervisions") or []
    if not isinstance(supervisions, list) or not all(isinstance(part, dict) for part in supervisions):
        raise CutError(f"found supervisions {supervisions!a:.80}, expected a list of objects")
    return Track(
        offset_s=_time(row.get("offset", 0), "offset"),
        start_s=_time(cut.get("start"), "start"),
        seconds=_time(cut.get("duration"), "duration"),
        channels=_channels(cut.get("channel", 0)),
        recording=_recording(recording) if isinstance(recording, dict) else None,
        supervisions=tuple(map(_supervision, supervisions)),
    )


def _supervision(record: Mapping[str, Any]) -> Supervision:
    custom = _mapping(record.get("custom"))
    start, seconds, wrong = 0.0, 0.0, None
    channels: tuple[int, ...] = ()
    try:
        start, seconds = _number(record.get("start"), "start"), _time(record.get("duration"), "duration")
        channels = _channels(record.get("channel", 0))
    except CutError as error:
        start, wrong = math.inf, str(error)
    speaker = record.get("speaker")
    voice = {"gender": record.get("gender", custom.get("gender"))}
    return Supervision(
        start_s=start,
        seconds=seconds,
        channels=channels,
        text=record.get("text"),
        speaker="" if speaker is None else str(speaker),
        voice=voice | {name: custom.get(name) for name in ("age", "emotion", "accent")},
        answer=_first(custom, _ANSWERS),
        wrong=wrong,
    )


def _recording(record: Mapping[str, Any]) -> Recording:
    sources = record.get("sources")
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        raise CutError(f"found sources {sources!a:.80}, expected a list of objects")
    rate = record.get("sampling_rate")
    return Recording(
        sources=tuple(
            Source(
                kind=str(source.get("type")),
                place=source.get("source"),
                channels=_channels(source.get("channels", [0])),
            )
            for source in sources
        ),
        rate=rate if isinstance(rate, int) and 0 < rate < 1 << 24 else None,
        seconds=_time(record.get("duration"), "duration of the recording"),
        effects=tuple(_named(record.get("transforms"))),
    )


def _effects(record: Mapping[str, Any], tracks: Sequence[Any]) -> Iterator[str]:
    """The effects of a mix, in words."""
    yield from _named(record.get("transforms"))
    if any(isinstance(track, dict) and track.get("snr") is not None for track in tracks):
        yield "a mix at a ratio of signal to noise"


def _named(transforms: Any) -> Iterator[str]:
    for transform in transforms if isinstance(transforms, list) else ():
        yield str(transform.get("name")) if isinstance(transform, dict) else str(transform)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(custom: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((custom[name] for name in names if isinstance(custom.get(name), str)), None)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise CutError(f"found {what} {value!a:.80}, expected seconds")
    return float(value)


def _time(value: Any, what: str) -> float:
    number = _number(value, what)
    if number < 0:
        raise CutError(f"found {what} {value!a:.80}, expected seconds from 0")
    return number


def _channels(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(channel, int) and 0 <= channel < 1000 for channel in values):
        raise CutError(f"found channel {value!a:.80}, expected a number from 0, or a list of them")
    return tuple(values)
