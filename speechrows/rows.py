"""Dialogue x Task -> Row | Skipped | LeftOut: where the decisions of the layer below meet.

Two steps, because a tokenizer is fastest in batches: `hear` pairs a dialogue's turns and reads
its clips; `to_rows` turns many heard dialogues into rows at once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from speechrows.budget import padded_length
from speechrows.chat import Chat
from speechrows.chat import normalise
from speechrows.codec import num_audio_tokens
from speechrows.errors import BadClipError
from speechrows.pairing import Item
from speechrows.pairing import number_faults
from speechrows.pairing import pair
from speechrows.pairing import text_fault
from speechrows.types import AudioRef
from speechrows.types import Clip
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Int32
from speechrows.types import LeftOut
from speechrows.types import Reason
from speechrows.types import Row
from speechrows.types import Skipped
from speechrows.types import Task
from speechrows.types import Tokens
from speechrows.types import Turn


class ClipLoader(Protocol):
    """What `hear` needs of a clip buffer."""

    used: int

    def load(self, ref: AudioRef) -> Clip:
        """Read and check a clip. Raises BadClipError."""
        ...

    def rewind(self, used: int) -> None:
        """Forget the clips from `used` on."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSpec:
    """What a row is: everything beside the corpus that decides its content."""

    builder: str
    corpus: str
    task: Task
    chat: Chat
    tokens_per_second: Fraction
    validation_fraction: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """A dialogue whose clips have been read: `clips` and `target_clips` go with `items`."""

    dialogue: Dialogue
    items: tuple[Item, ...]
    clips: tuple[Clip, ...]
    target_clips: tuple[Clip | None, ...]
    skipped: tuple[Skipped, ...]
    left_out: tuple[LeftOut, ...]


def split_of(dialogue: Dialogue, validation_fraction: float) -> str:
    """The split of a dialogue: its own, or validation for a stable share of train."""
    if validation_fraction > 0 and dialogue.split == "train":
        digest = hashlib.sha256(dialogue.twin_key.encode(errors="surrogateescape")).digest()
        if int.from_bytes(digest[:8]) < validation_fraction * 2**64:
            return "validation"
    return dialogue.split


def hear(dialogue: Dialogue, task: Task, loader: ClipLoader) -> Heard:
    """Pair a dialogue and read its clips. Where the task is whole, one fault drops all of it."""
    items, left_out = pair(dialogue, task)
    faults = number_faults(dialogue, items, task)
    start, kept, clips, target_clips = loader.used, list[Item](), list[Clip](), list[Clip | None]()
    for i, item in enumerate(items):
        if i in faults:
            continue
        if task.whole and faults:
            break
        before = loader.used
        fault = text_fault(item, dialogue.source)
        try:
            if fault is None:
                clip = _load(item.turn, loader)
                target = _load(item.answer, loader) if item.answer and item.answer.audio else None
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
    return Heard(
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


def _load(turn: Turn, loader: ClipLoader) -> Clip:
    assert turn.audio is not None  # its callers ask
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


def to_rows(heard: Sequence[Heard], spec: RowSpec) -> tuple[list[Row], list[Skipped]]:
    """Rows of heard dialogues, in order; texts are tokenised in one batch."""
    task = spec.task
    targets = [_target(item, task) for one in heard for item in one.items]
    encoded = iter(zip(targets, spec.chat.encode(targets), strict=True))
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for one in heard:
        mine = [next(encoded) for _ in one.items]
        faults = [i for i, (_, ids) in enumerate(mine) if ids is None]
        if faults and task.whole:
            incomplete = _incomplete(one.dialogue, one.items[faults[0]])
            for i, item in enumerate(one.items):
                skipped.append(_skip(item, _not_round_trip(one, mine[i][0]) if i in faults else incomplete))
            continue
        skipped += [_skip(one.items[i], _not_round_trip(one, mine[i][0])) for i in faults]
        rows += _rows_of(one, mine, spec)
    return rows, skipped


def _target(item: Item, task: Task) -> str:
    """What the assistant says: the task's supervised segment, filled in."""
    answer = item.answer.text if item.answer else ""
    text = task.segments[1].text.format(transcript=item.turn.text, answer=answer)
    return normalise(text, lower_case=task.lower_case)


def _not_round_trip(heard: Heard, target: str) -> Fault:
    detail = f"the tokenizer does not give back the target {target[:80]!r}"
    return Fault(reason=Reason.NOT_ROUND_TRIP, detail=detail, file=heard.dialogue.source)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """A row whose length is known: padded lengths are summed before any row is made."""

    item: Item
    clip: Clip
    target_clip: Clip | None
    target: str
    target_ids: Int32
    num_audio_tokens: int
    num_tokens: int
    first: bool


def _rows_of(heard: Heard, encoded: Sequence[tuple[str, Int32 | None]], spec: RowSpec) -> list[Row]:
    """The rows of one dialogue."""
    plans: list[_Plan] = []
    for i, (target, ids) in enumerate(encoded):
        if ids is None:
            continue
        clip, first = heard.clips[i], not spec.task.whole or heard.items[i].number == 0
        audio = num_audio_tokens(clip.num_samples, clip.sampling_rate, spec.tokens_per_second)
        plans.append(
            _Plan(
                item=heard.items[i],
                clip=clip,
                target_clip=heard.target_clips[i],
                target=target,
                target_ids=ids,
                num_audio_tokens=audio,
                num_tokens=spec.chat.num_tokens(len(ids), audio, first=first),
                first=first,
            )
        )
    multiple = spec.task.pad_to_multiple_of
    lengths = [padded_length(plan.num_tokens, multiple) for plan in plans]
    split, total = split_of(heard.dialogue, spec.validation_fraction), Tokens(sum(lengths))
    return [
        _row(plan, heard, spec, split, length, total) for plan, length in zip(plans, lengths, strict=True)
    ]


def _row(plan: _Plan, heard: Heard, spec: RowSpec, split: str, length: int, total: Tokens) -> Row:
    task, chat, item, dialogue = spec.task, spec.chat, plan.item, heard.dialogue
    input_ids, labels = chat.assemble(plan.target_ids, plan.num_audio_tokens, first=plan.first, length=length)
    file = item.turn.audio.path if item.turn.audio else dialogue.source
    return Row(
        row_id=f"{spec.builder}/{split}/{item.clip_id}/{task.name}",
        task=task.name,
        split=split,
        clip_id=item.clip_id,
        conversation_id=dialogue.conversation_id,
        turn_number=item.number,
        num_turns=len(heard.items) if task.whole else len(dialogue.turns),
        speaker=item.turn.speaker,
        role=item.turn.role or "user",  # None only beside a fault, which makes no row
        clip=plan.clip,
        transcript=normalise(item.turn.text),
        messages=(("user", chat.user), ("assistant", plan.target)),
        text=chat.render(plan.target, first=plan.first),
        input_ids=input_ids,
        labels=labels,
        num_tokens=Tokens(plan.num_tokens),
        conversation_tokens=total,
        target_clip=plan.target_clip,
        traits=item.turn.traits,
        domain=dialogue.domain,
        source=f"{spec.corpus}/{file}",
    )
