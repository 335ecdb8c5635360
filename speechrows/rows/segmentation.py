"""How long a clip may be, and which neighbouring segments of a speaker become one turn."""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import cache

from speechrows.corpora.clip_buffer import Sound
from speechrows.rows.rows import LoadedDialogue
from speechrows.types import AudioRef
from speechrows.types import Clip
from speechrows.types import Dialogue
from speechrows.types import Following
from speechrows.types import LeftOut
from speechrows.types import Rule
from speechrows.types import Span
from speechrows.types import Task
from speechrows.types import Turn

_TOLERANCE_S = 0.025  # starts are rounded: a clip may begin so much before the end of the one before it
SoundOf = Callable[[AudioRef], Sound | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """Limits of a clip's length in seconds, and the gap up to which segments are joined; None is no limit."""

    min_seconds: float | None = None
    max_seconds: float | None = None
    merge_gap: float | None = None

    def merged(self, dialogue: Dialogue, sound_of: SoundOf) -> tuple[Dialogue, list[LeftOut]]:
        """A dialogue whose speakers' neighbouring segments are one turn; and those that became part of one.

        Segments are joined where the silence between them is at most the gap, and they are slices of one
        recording, or clips of their own whose starts are known, of one format: `sound_of` gives it, or None.
        Such a dialogue has another id: its turns are other clips than those of the corpus.
        """
        if self.merge_gap is None:
            return dialogue, []
        turns, joined, sound_of = list[Turn](), list[LeftOut](), cache(sound_of)
        for turn in dialogue.turns:
            whole = _joined(turns[-1], turn, self.merge_gap, sound_of) if turns else None
            if whole is None:
                turns.append(turn)
            else:
                turns[-1] = whole
                joined.append(LeftOut(clip_id=dialogue.clip_id(turn), rule=Rule.MERGED))
        if not joined:
            return dialogue, []
        numbered = tuple(replace(turn, number=number) for number, turn in enumerate(turns))
        name = f"{dialogue.conversation_id}+gap{self.merge_gap:g}"
        return replace(dialogue, conversation_id=name, turns=numbered), joined

    def within(self, loaded: LoadedDialogue, task: Task) -> LoadedDialogue:
        """A loaded dialogue without the clips outside the limits; a whole task leaves all of it out."""
        if self.min_seconds is None and self.max_seconds is None:
            return loaded
        pairs = zip(loaded.clips, loaded.target_clips, strict=True)
        rules = [self._rule([clip for clip in pair if clip is not None]) for pair in pairs]
        worst = next(filter(None, rules), None)
        if worst is None:
            return loaded
        if task.whole:
            rules = [rule or worst for rule in rules]
        kept = [i for i, rule in enumerate(rules) if rule is None]
        left_out = [
            LeftOut(clip_id=item.clip_id, rule=rule)
            for item, rule in zip(loaded.items, rules, strict=True)
            if rule is not None
        ]
        return replace(
            loaded,
            items=tuple(loaded.items[i] for i in kept),
            clips=tuple(loaded.clips[i] for i in kept),
            target_clips=tuple(loaded.target_clips[i] for i in kept),
            left_out=(*loaded.left_out, *left_out),
        )

    def _rule(self, clips: Sequence[Clip]) -> Rule | None:
        """The rule that leaves a row's clips out."""
        seconds = [clip.num_samples / clip.sampling_rate for clip in clips]
        if self.max_seconds is not None and max(seconds, default=0) > self.max_seconds:
            return Rule.CLIP_TOO_LONG
        if self.min_seconds is not None and min(seconds, default=self.min_seconds) < self.min_seconds:
            return Rule.CLIP_TOO_SHORT
        return None


def _joined(turn: Turn, other: Turn, gap: float, sound_of: SoundOf) -> Turn | None:
    """Two segments of one speaker as a turn; None where they are none of one, or lie too far apart."""
    if (turn.speaker, turn.role) != (other.speaker, other.role) or turn.fault or other.fault:
        return None
    if any(part.answer is not None or part.codes or part.left_out or part.prompt for part in (turn, other)):
        return None
    if turn.audio is None or other.audio is None:
        return None
    if turn.audio.path == other.audio.path and turn.audio.span:
        audio = _around(turn.audio, other.audio, gap)
    else:
        audio = _end_to_end(turn, turn.audio, other, other.audio, gap, sound_of)
    if audio is None:
        return None
    text = " ".join(filter(None, (turn.text.strip(), other.text.strip())))
    return replace(turn, text=text, audio=audio)


def _around(first: AudioRef, second: AudioRef, gap: float) -> AudioRef | None:
    """The slice of a recording from the begin of one slice to the end of the next."""
    if first.span is None or second.span is None or first.span.seconds is None:
        return None
    if first.channel != second.channel or first.following:
        return None
    silence = second.span.start_s - (first.span.start_s + first.span.seconds)
    if silence > gap or second.span.start_s < first.span.start_s:
        return None
    end = None if second.span.seconds is None else second.span.start_s + second.span.seconds
    length = None if end is None else max(end - first.span.start_s, first.span.seconds)
    return replace(first, span=Span(start_s=first.span.start_s, seconds=length))


def _end_to_end(
    turn: Turn, first: AudioRef, other: Turn, second: AudioRef, gap: float, sound_of: SoundOf
) -> AudioRef | None:
    """Two clips with the silence between them, where both starts are known and their formats are one."""
    if turn.start_s is None or other.start_s is None:
        return None
    last = first.following[-1] if first.following else Following(audio=first, after_s=0)
    after_s = other.start_s - turn.start_s
    if after_s <= last.after_s:
        return None
    sounds = sound_of(last.audio), sound_of(second)
    if sounds[0] is None or sounds[1] is None or sounds[0].form != sounds[1].form:
        return None
    silence = round(after_s - last.after_s - sounds[0].seconds, 6)
    if not -_TOLERANCE_S <= silence <= gap:
        return None
    return replace(first, following=(*first.following, Following(audio=second, after_s=after_s)))
