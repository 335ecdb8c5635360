"""A cut -> a dialogue: its supervisions as turns, in the order of their starts, each with its own sound."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from speechrows.audio import to_samples
from speechrows.corpora import traits
from speechrows.corpora.chats.files import RecordRun
from speechrows.corpora.cuts.records import TARGET
from speechrows.corpora.cuts.records import Cut
from speechrows.corpora.cuts.records import Recording
from speechrows.corpora.cuts.records import Source
from speechrows.corpora.cuts.records import Supervision
from speechrows.corpora.cuts.records import Track
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.tables.roles import RoleRule
from speechrows.corpora.tables.roles import are_roles
from speechrows.corpora.tables.roles import roles_of
from speechrows.corpora.turns import checked_text
from speechrows.corpora.turns import fault_of
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Span
from speechrows.types import Task
from speechrows.types import Turn

RECORDING = "recording"  # the field of a cut's own sound; TARGET is that of the answer's
_TOLERANCE_S = 0.025  # times are rounded: a supervision may stand out of its cut so far, and ends with it
_FILES_ALONE = (
    "expected a file, or an archive of SHAR: a manifest's commands are not run, its addresses not "
    "fetched. Write the sound beside it: CutSet.save_audios"
)

Clips = Mapping[str, AudioRef | Fault]  # of a cut in an archive, by field


@dataclass(frozen=True, kw_only=True, slots=True)
class CutPlace:
    """Where a cut stands, and the clips that lie in archives beside it."""

    record: Record
    run: RecordRun
    clips: Clips

    @property
    def is_repeat(self) -> bool:
        """Whether an earlier cut of its split has its id."""
        return self.record.number in self.run.repeats

    def name(self, cut: Cut) -> str:
        """What its conversation is called by."""
        number = self.record.place.rpartition(":")[2]
        return f"{self.run.file.stem}:{number}" if self.is_repeat else cut.name


@dataclass(frozen=True, kw_only=True, slots=True)
class CutMaker:
    """Makes dialogues of cuts, for a task."""

    names: ClipNames
    task: Task
    rule: RoleRule
    _paths: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str], compare=False)

    def dialogue(self, cut: Cut, at: CutPlace) -> Dialogue:
        """The dialogue of a cut; what is wrong with a supervision is its turn's fault."""
        spoken = [(track, supervision) for track in cut.tracks for supervision in track.supervisions]
        spoken.sort(key=lambda pair: pair[0].offset_s + pair[1].start_s)
        turns = [self._turn(number, cut, *pair, at) for number, pair in enumerate(spoken)]
        turns = self._with_answers(cut, _with_roles(turns, at.record.place, self.rule), spoken, at)
        split = at.run.file.split or "train"
        name = at.name(cut)
        alone = turns[0].speaker if len(spoken) == 1 else None
        return Dialogue(
            conversation_id=f"{self.names.corpus.name}/{split}/{name}",
            split=split,
            domain=None,
            turns=tuple(turns),
            twin_key=None if at.run.has_evaluation else alone or f"{split}/{name}",
            source=at.record.place,
            system=cut.system,
        )

    def _turn(self, number: int, cut: Cut, track: Track, supervision: Supervision, at: CutPlace) -> Turn:
        """A supervision as a turn, whose role follows."""
        audio, fault = None, None
        try:
            _check(cut, supervision, at)
            audio = self._slice(track, supervision, at)
        except BadClipError as error:
            fault = fault_of(error, at.record.place)
        start = round(track.offset_s + supervision.start_s, ndigits=8)
        return Turn(
            number=number,
            speaker=supervision.speaker,
            role=None,
            text=supervision.text if isinstance(supervision.text, str) else "",
            audio=audio,
            traits=traits.normalise(**supervision.voice),
            fault=fault,
            start_s=max(start, 0.0) if math.isfinite(start) else None,
        )

    def _slice(self, track: Track, supervision: Supervision, at: CutPlace) -> AudioRef:
        """The sound of a supervision: a slice of its track's recording, of its channel."""
        start, stop = supervision.start_s, supervision.start_s + supervision.seconds
        if start < -_TOLERANCE_S or stop > track.seconds + _TOLERANCE_S:
            raise BadClipError(
                Reason.METADATA_DISAGREES,
                f"found a supervision from {start:g} to {stop:g} s in a cut of {track.seconds:g} s, expected "
                "one inside it: not all of its text is heard. Cut between supervisions "
                "(trim_to_supervisions, merge_supervisions)",
            )
        start, stop = max(start, 0.0), min(stop, track.seconds)
        if track.recording is None:
            raise BadClipError(Reason.MISSING, "found a cut without a recording, expected its sound")
        channels = track.channels if len(track.channels) == 1 else supervision.channels
        first = _sum(track.start_s, start, track.recording.rate)
        span = Span(start_s=first, seconds=stop - start)
        return self._audio(track.recording, channels, span, RECORDING, at)

    def _audio(
        self, recording: Recording, channels: Sequence[int], span: Span | None, sound: str, at: CutPlace
    ) -> AudioRef:
        """A slice of some channels of a recording: all that a file has, or of several the first.

        Raises:
            BadClipError: it has no such channel, or does not lie in a file.
        """
        if recording.effects:
            raise _with_effects(recording.effects, "the recording")
        source = next((own for own in recording.sources if {*own.channels} & {*channels}), None)
        if source is None:
            known = ", ".join(str(channel) for own in recording.sources for channel in own.channels)
            raise BadClipError(
                Reason.NO_CHANNEL,
                f"found channel {', '.join(map(str, channels))}, expected one of the recording's: {known}",
            )
        path, data = self._place(source, sound, at)
        wanted = [i for i, channel in enumerate(source.channels) if channel in channels]
        is_all = len(wanted) == len(source.channels)
        return AudioRef(path=path, channel=None if is_all else wanted[0], span=span, data=data)

    def _place(self, source: Source, sound: str, at: CutPlace) -> tuple[str, bytes | memoryview | None]:
        """The path of a source, and its bytes where they lie in no file."""
        if source.kind == "file":
            return self._path(source.place, at.run.file), None
        if source.kind != "shar":
            raise BadClipError(
                Reason.REFUSED_PATH, f"found a source of type {source.kind!a:.40}, {_FILES_ALONE}"
            )
        clip = at.clips.get(sound)
        if isinstance(clip, AudioRef):
            return clip.path, clip.data
        detail = f"found no {archive_of(at.run.file, sound)}, expected it beside the cuts"
        raise BadClipError(Reason.MISSING, detail if clip is None else clip.detail)

    def _path(self, name: Any, file: TableFile) -> str:
        """The path of a file; the one that was asked for last is known."""
        key = file.path, repr(name)
        if key not in self._paths:
            path = self.names.path_of(name, file)
            self._paths.clear()
            self._paths[key] = path
        return self._paths[key]

    def _with_answers(
        self, cut: Cut, turns: list[Turn], spoken: Sequence[tuple[Track, Supervision]], at: CutPlace
    ) -> list[Turn]:
        """The turns, those of the assistant with the answer's speech; one turn with its answer is two."""
        if len(turns) == 1 and turns[0].role == "user":
            answer = spoken[0][1].answer or cut.answer
            if answer is None or not (cut.target or self.task.pairing == "exchange"):
                return turns
            answered = Turn(number=1, speaker="", role="assistant", text=answer, audio=None)
            return [turns[0], self._with_target(cut, answered, None, at)]
        if cut.target is None:
            return turns
        is_aligned = (
            cut.target.seconds >= max(track.offset_s + track.seconds for track in cut.tracks) - _TOLERANCE_S
        )
        is_slice = is_aligned or sum(turn.role == "assistant" for turn in turns) > 1
        spans = [
            Span(start_s=turn.start_s or 0.0, seconds=supervision.seconds) if is_slice else None
            for turn, (_, supervision) in zip(turns, spoken, strict=True)
        ]
        return [
            self._with_target(cut, turn, span, at) if turn.role == "assistant" else turn
            for turn, span in zip(turns, spans, strict=True)
        ]

    def _with_target(self, cut: Cut, turn: Turn, span: Span | None, at: CutPlace) -> Turn:
        """A turn of the assistant, which is heard in the target's sound."""
        if cut.target is None or turn.fault is not None:
            return turn
        try:
            channels = [channel for source in cut.target.sources for channel in source.channels]
            return replace(turn, audio=self._audio(cut.target, channels, span, TARGET, at))
        except BadClipError as error:
            return replace(turn, audio=None, fault=fault_of(error, at.record.place))


def archive_of(file: TableFile, field: str) -> str:
    """The archive of a field beside a file of cuts: recording.000000.tar beside cuts.000000.jsonl.gz."""
    return field + file.stem.rpartition("/")[2].removeprefix("cuts") + ".tar"


def _check(cut: Cut, supervision: Supervision, at: CutPlace) -> None:
    """Raises BadClipError: a supervision can be no turn, wherever its sound is."""
    if at.is_repeat:
        detail = f"found the id {cut.name!a:.80} again, expected each once in a split"
        raise BadClipError(Reason.BAD_NUMBER, detail)
    if cut.effects:
        raise _with_effects(cut.effects, "the cut")
    if supervision.wrong is not None:
        raise BadClipError(Reason.BAD_NUMBER, supervision.wrong)
    if supervision.text is None:
        raise BadClipError(Reason.EMPTY_TEXT, "found a supervision without text, expected words")
    checked_text(supervision.text)


def _with_effects(effects: Sequence[str], what: str) -> BadClipError:
    detail = (
        f"found the effect {', '.join(effects)!s:.80} on {what}, expected sound as it is stored: take the "
        "cuts from before, or store what they sound like (CutSet.save_audios, to_shar)"
    )
    return BadClipError(Reason.METADATA_DISAGREES, detail)


def _sum(start: float, further: float, rate: int | None) -> float:
    """A time after another, as lhotse adds them: in samples."""
    if rate is None:
        return round(start + further, ndigits=8)
    return (to_samples(start, rate) + to_samples(further, rate)) / rate


def _with_roles(turns: Sequence[Turn], place: str, rule: RoleRule) -> list[Turn]:
    """The turns of a cut with their roles: by speakers' names, where these are roles, else by the rule."""
    speakers = [turn.speaker for turn in turns]
    cast = list(dict.fromkeys(filter(None, speakers)))
    words: Sequence[str] | None = None
    if not cast:  # one voice, whose name is not known
        words = ["user"] * len(turns)
    elif rule.assistant is None and "" not in speakers and are_roles(cast):
        words = speakers
    elif rule.assistant is None and len(cast) > 1 and any(map(str.isdecimal, cast)):
        detail = (
            f"found the speakers {', '.join(map(ascii, cast))!s:.200}, of whom a number tells no role; say "
            "who is the assistant: --assistant SPEAKER, second or last"
        )
        fault = Fault(reason=Reason.BAD_SPEAKER, detail=detail, file=place)
        return [replace(turn, fault=turn.fault or fault) for turn in turns]
    roles = roles_of(speakers, [place] * len(turns), words, rule)
    return [
        replace(turn, role=None, fault=turn.fault or role)
        if isinstance(role, Fault)
        else replace(turn, role=role)
        for turn, role in zip(turns, roles, strict=True)
    ]
