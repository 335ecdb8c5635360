"""Dialogue x Task -> Row | Skipped | LeftOut: where the decisions of the layer below meet.

Two steps, because a tokenizer is fastest in batches: `load_clips` pairs a dialogue's turns and reads
its clips; `to_rows` turns many loaded dialogues into rows at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple
from typing import Protocol

from speechrows.codec import CODECS
from speechrows.codec import check
from speechrows.codec import num_audio_tokens
from speechrows.errors import BadClipError
from speechrows.rows.conversation import ClipCount
from speechrows.rows.conversation import split_of
from speechrows.rows.conversation import system_of
from speechrows.rows.curriculum import padded_length
from speechrows.rows.pairing import Item
from speechrows.rows.pairing import number_faults
from speechrows.rows.pairing import pair
from speechrows.rows.pairing import text_fault
from speechrows.text.fill import fill
from speechrows.text.normalise import normalise
from speechrows.types import AudioRef
from speechrows.types import Clip
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Fields
from speechrows.types import LeftOut
from speechrows.types import Reason
from speechrows.types import Rendered
from speechrows.types import Row
from speechrows.types import Rule
from speechrows.types import Skipped
from speechrows.types import Task
from speechrows.types import Template
from speechrows.types import Tokens
from speechrows.types import Turn


class ClipLoader(Protocol):
    """A clip buffer as `load_clips` uses it."""

    used: int

    def load(self, ref: AudioRef) -> Clip:
        """Read and check a clip. Raises BadClipError."""
        ...

    def rewind(self, used: int) -> None:
        """Forget the clips from `used` on."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSpec:
    """Everything beside the corpus that decides the content of rows."""

    builder: str
    corpus: str
    task: Task
    template: Template
    tokens_per_second: Fraction
    validation_fraction: float = 0.0
    system: str | None = None  # of conversations without one of their own


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedDialogue:
    """A dialogue whose clips have been read: `clips` and `target_clips` go with `items`; text has none."""

    dialogue: Dialogue
    items: tuple[Item, ...]
    clips: tuple[Clip | None, ...]
    target_clips: tuple[Clip | None, ...]
    skipped: tuple[Skipped, ...]
    left_out: tuple[LeftOut, ...]


def load_clips(dialogue: Dialogue, task: Task, loader: ClipLoader) -> LoadedDialogue:
    """Pair a dialogue and read its clips. Where the task is whole, one fault drops all of it."""
    items, left_out = pair(dialogue, task)
    faults = number_faults(dialogue, items, task)
    start, kept, clips, target_clips = loader.used, list[Item](), list[Clip | None](), list[Clip | None]()
    for i, item in enumerate(items):
        if i in faults:
            continue
        if task.whole and faults:
            break
        before = loader.used
        fault = text_fault(item, task, dialogue) or _codes_fault(item, task, dialogue.source)
        try:
            if fault is None:
                clip, target = _load(item.turn, loader), _load(item.answer, loader)
                kept.append(item)
                clips.append(clip)
                target_clips.append(target)
                continue
        except _TurnFaultError as error:
            loader.rewind(before)
            fault = error.fault
        assert fault is not None
        faults[i] = fault
    if task.whole and faults:
        loader.rewind(start)
        kept, clips, target_clips = [], [], []
        incomplete = _incomplete(dialogue, items[min(faults)])
        faults = {i: faults.get(i, incomplete) for i in range(len(items))}
    return LoadedDialogue(
        dialogue=dialogue,
        items=tuple(kept),
        clips=tuple(clips),
        target_clips=tuple(target_clips),
        skipped=tuple(_skip(items[i], fault) for i, fault in sorted(faults.items())),
        left_out=tuple(left_out),
    )


class _TurnFaultError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


def _load(turn: Turn | None, loader: ClipLoader) -> Clip | None:
    if turn is None or turn.audio is None:
        return None
    try:
        return loader.load(turn.audio)
    except BadClipError as error:
        file = turn.audio.path
        raise _TurnFaultError(Fault(reason=error.reason, detail=error.detail, file=file)) from error


def _skip(item: Item, fault: Fault) -> Skipped:
    return Skipped(clip_id=item.clip_id, reason=fault.reason, detail=fault.detail, file=fault.file)


def _incomplete(dialogue: Dialogue, lost: Item) -> Fault:
    detail = f"{lost.clip_id} is skipped, and this task promises whole conversations"
    return Fault(reason=Reason.DIALOGUE_INCOMPLETE, detail=detail, file=dialogue.source)


class Outcome(NamedTuple):
    """What became of the items of loaded dialogues, in order."""

    rows: list[Row]
    skipped: list[Skipped]
    left_out: list[LeftOut]


def to_rows(loaded: Sequence[LoadedDialogue], spec: RowSpec) -> Outcome:
    """Rows of loaded dialogues, in order; texts are tokenised in one batch."""
    clips = ClipCount()
    fields = [_fields(item, dialogue, spec, clips) for dialogue in loaded for item in dialogue.items]
    texts = iter(fill(spec.template, fields))
    outcome = Outcome([], [], [])
    for dialogue in loaded:
        rendered = [next(texts) for _ in dialogue.items]
        lost = [i for i, text in enumerate(rendered) if text is None]
        if lost and spec.task.whole:
            incomplete = _incomplete(dialogue.dialogue, dialogue.items[lost[0]])
            for i, item in enumerate(dialogue.items):
                fault = _not_round_trip(dialogue, item) if i in lost else incomplete
                outcome.skipped.append(_skip(item, fault))
            continue
        lost_items = [dialogue.items[i] for i in lost]
        outcome.skipped.extend(_skip(item, _not_round_trip(dialogue, item)) for item in lost_items)
        rows, left_out = _rows_of(dialogue, rendered, spec)
        outcome.rows.extend(rows)
        outcome.left_out.extend(left_out)
    return outcome


def _fields(item: Item, loaded: LoadedDialogue, spec: RowSpec, clips: ClipCount) -> Fields:
    """The fields that an item of a dialogue fills its task's segments with."""
    task = spec.task
    turn, answer, has_units = item.turn, item.answer, task.needs == "units"
    return Fields(
        transcript=turn.text,
        answer=(turn.answer or "") if answer is None else answer.text,
        units=turn.codes.values[0] if turn.codes and has_units else None,
        answer_units=answer.codes.values[0] if answer and answer.codes and has_units else None,
        answer_is_cut=turn.answer_is_cut and answer is None,
        number=item.number if task.whole else 0,
        last=not task.whole or item.number == len(loaded.items) - 1,
        system=system_of(loaded.dialogue, task, spec.system),
        prompt=normalise(turn.message),
        clips_before=clips.before(item.number, has_clip=turn.audio is not None) if task.takes_text else None,
    )


def _codes(item: Item, task: Task) -> Codes | None:
    """The codes that are an item's codec targets."""
    if task.codec_targets is None:
        return None
    turn = item.answer if task.codec_targets == "answer" else item.turn
    return turn.codes if turn else None


def _codes_fault(item: Item, task: Task, source: str) -> Fault | None:
    """The fault of an item's codes, if they do not fit their codec."""
    for codes in (_codes(item, task), item.turn.codes if task.needs == "units" else None):
        spec = CODECS.get(codes.codec) if codes else None
        wrong = check(codes.values, spec) if codes and spec else None
        if wrong:
            return Fault(reason=Reason.BAD_CODES, detail=wrong, file=source)
    return None


def _not_round_trip(loaded: LoadedDialogue, item: Item) -> Fault:
    texts = [item.turn.text, item.answer.text if item.answer else item.turn.answer]
    quoted = " or ".join(f"{text[:80]!r}" for text in texts if text)
    detail = f"the tokenizer does not give back {quoted}"
    return Fault(reason=Reason.NOT_ROUND_TRIP, detail=detail, file=loaded.dialogue.source)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draft:
    """A row whose length is known: padded lengths are summed before any row is made."""

    item: Item
    clip: Clip | None
    target_clip: Clip | None
    rendered: Rendered
    num_audio_tokens: int
    num_tokens: int


def _rows_of(
    loaded: LoadedDialogue, rendered: Sequence[Rendered | None], spec: RowSpec
) -> tuple[list[Row], list[LeftOut]]:
    """The rows of one dialogue, and the items that are too long for the task."""
    drafts: list[_Draft] = []
    left_out: list[LeftOut] = []
    task = spec.task
    for i, text in enumerate(rendered):
        if text is None:
            continue
        item, clip = loaded.items[i], loaded.clips[i]
        audio = num_audio_tokens(clip.num_samples, clip.sampling_rate, spec.tokens_per_second) if clip else 0
        num_tokens = text.num_tokens(audio)
        if task.max_tokens is not None and num_tokens > task.max_tokens:
            left_out.append(LeftOut(clip_id=item.clip_id, rule=Rule.TOO_LONG))
            continue
        drafts.append(
            _Draft(
                item=item,
                clip=clip,
                target_clip=loaded.target_clips[i],
                rendered=text,
                num_audio_tokens=audio,
                num_tokens=num_tokens,
            )
        )
    lengths = [padded_length(draft.num_tokens, task.pad_to_multiple_of) for draft in drafts]
    split, total = split_of(loaded.dialogue, spec.validation_fraction), Tokens(sum(lengths))
    rows = [
        _row(draft, loaded, spec, split, length, total) for draft, length in zip(drafts, lengths, strict=True)
    ]
    return rows, left_out


def _row(draft: _Draft, loaded: LoadedDialogue, spec: RowSpec, split: str, length: int, total: Tokens) -> Row:
    task, item, dialogue = spec.task, draft.item, loaded.dialogue
    input_ids, labels = draft.rendered.assemble(draft.num_audio_tokens, length=length)
    file = item.turn.audio.path if item.turn.audio else dialogue.source
    role = "user" if task.pairing == "both" else item.turn.role
    user = normalise(item.turn.message) if task.takes_text else spec.template.user
    return Row(
        row_id=f"{spec.builder}/{split}/{item.clip_id}/{task.name}",
        task=task.name,
        split=split,
        clip_id=item.clip_id,
        conversation_id=dialogue.conversation_id,
        turn_number=item.number,
        num_turns=len(loaded.items) if task.whole else len(dialogue.turns),
        speaker=item.turn.speaker,
        role=role or "user",  # None only beside a fault, which makes no row
        clip=draft.clip,
        transcript=normalise(item.turn.text) if draft.clip else "",
        messages=(("user", user), ("assistant", draft.rendered.target)),
        text=draft.rendered.text(),
        input_ids=input_ids,
        labels=labels,
        num_tokens=Tokens(draft.num_tokens),
        conversation_tokens=total,
        target_clip=draft.target_clip,
        codes=_codes(item, task),
        traits=item.turn.traits,
        domain=dialogue.domain,
        source=f"{spec.corpus}/{file}",
        system=system_of(dialogue, task, spec.system),
        start_s=item.turn.start_s,
    )
