"""A dialogue's items under a task's pairing, and their faults that show before a clip is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from speechrows.corpora.turns import MAX_NAME
from speechrows.corpora.turns import is_unicode
from speechrows.text.normalise import is_blank
from speechrows.types import AUDIO_TOKEN
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import LeftOut
from speechrows.types import Reason
from speechrows.types import Rule
from speechrows.types import Task
from speechrows.types import Turn

MAX_TEXT = 2_000_000  # characters: a day of speech. A tokenizer takes hundreds of bytes for each


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """What could become one row: a turn, or an exchange (a user's turn and its answer)."""

    clip_id: str
    number: int
    turn: Turn
    answer: Turn | None = None


def pair(dialogue: Dialogue, task: Task) -> tuple[list[Item], list[LeftOut]]:
    """The items of a dialogue under a task's pairing, and those its rules leave out."""
    items: list[Item] = []
    left_out: list[LeftOut] = []
    turns = dialogue.turns
    same_speaker = task.pairing == "both" and any(
        a.role and b.role and a.speaker == b.speaker for a, b in pairwise(turns)
    )
    for i, turn in enumerate(turns):
        clip_id = dialogue.clip_id(turn)
        answer = turns[i + 1] if i + 1 < len(turns) else None
        rule = _rule(turn, answer, task, same_speaker=same_speaker)
        if turn.role == "assistant" and task.pairing == "exchange":
            continue  # no item of its own: it answers one
        if rule is not None:
            left_out.append(LeftOut(clip_id=clip_id, rule=rule))
        elif task.pairing == "turn" or turn.role is None:
            number = len(items) if task.pairing == "exchange" else turn.number
            items.append(Item(clip_id=clip_id, number=number, turn=turn))
        else:
            number = len(items) if task.pairing == "exchange" else turn.number
            items.append(Item(clip_id=clip_id, number=number, turn=turn, answer=answer))
    return items, left_out


def _rule(  # noqa: PLR0911  # a rule a line
    turn: Turn, answer: Turn | None, task: Task, *, same_speaker: bool
) -> Rule | None:
    """The rule that leaves an item out, or None. Faulty items are not left out: they are skipped."""
    if turn.role is None:
        return None
    if task.pairing != "turn" and (answer is None or (task.pairing == "exchange" and answer.role == "user")):
        return Rule.NO_ANSWER
    turns = [turn] if answer is None or task.pairing == "turn" else [turn, answer]
    if any(turn.fault is not None for turn in turns):
        return None
    if turn.left_out is not None:
        return turn.left_out
    if same_speaker:
        return Rule.SAME_SPEAKER
    if task.needs == "answer" and turn.answer is None:
        return Rule.NO_ANSWER
    if task.needs in ("codes", "units") and any(turn.codes is None for turn in turns):
        return Rule.NO_CODES
    return None


def number_faults(dialogue: Dialogue, items: Sequence[Item], task: Task) -> dict[int, Fault]:
    """Faults of numbering by item: repeats everywhere, gaps too where the task is whole."""

    def fault(number: int, expected: str) -> Fault:
        detail = f"found turn number {number}, expected {expected}"
        return Fault(reason=Reason.BAD_NUMBER, detail=detail, file=dialogue.source)

    if task.whole:
        for position, turn in enumerate(dialogue.turns):
            if turn.number != position and items:
                at = next(
                    (i for i, item in enumerate(items) if turn in (item.turn, item.answer)),
                    len(items) - 1,
                )
                return {at: fault(turn.number, str(position))}
        return {}
    seen: set[int] = set()
    faults: dict[int, Fault] = {}
    for i, item in enumerate(items):
        if item.turn.number in seen or item.turn.number < 0:
            faults[i] = fault(item.turn.number, "each number once, from 0")
        seen.add(item.turn.number)
    return faults


def text_fault(item: Item, task: Task, dialogue: Dialogue) -> Fault | None:
    """The first fault of an item before its clips are read: of its turns, then of texts and system prompt."""
    source = dialogue.source
    turns = [item.turn] if item.answer is None else [item.turn, item.answer]
    texts = [turns[-1].text] if task.pairing == "exchange" else [turn.text for turn in turns]
    if task.takes_text:
        texts.append(item.turn.message)
    if task.needs == "answer":
        texts.append(item.turn.answer or "")
    for turn in turns:
        if turn.fault is not None:
            return turn.fault
        if len(turn.speaker) > MAX_NAME:
            detail = f"found a speaker of {len(turn.speaker):,} letters, expected a name"
            return Fault(reason=Reason.BAD_SPEAKER, detail=detail, file=source)
        if not is_unicode(turn.speaker):
            detail = f"found speaker {turn.speaker!a:.80}, expected a name in UTF-8"
            return Fault(reason=Reason.BAD_SPEAKER, detail=detail, file=source)
    every = (*texts, item.turn.text, dialogue.system or "")
    faults = [fault for text in every if (fault := _unwritable(text, source))]
    if faults:
        return faults[0]
    fault = _message_fault(item.turn, source) if task.takes_text else None
    if item.turn.audio is None and not task.takes_text:
        fault = Fault(reason=Reason.MISSING, detail="found no audio, expected a clip", file=source)
    if fault is None and any(map(is_blank, texts)):
        fault = Fault(reason=Reason.EMPTY_TEXT, detail="the text is empty; expected words", file=source)
    return fault


def _message_fault(turn: Turn, source: str) -> Fault | None:
    """The fault of a user's message that spells `<audio>` where it has no clip, or more often than once."""
    count, expected = turn.message.count(AUDIO_TOKEN), int(turn.audio is not None)
    if count == expected:
        return None
    detail = f"found {AUDIO_TOKEN} {count} times in {turn.message!r:.80}, expected it {expected} times"
    return Fault(reason=Reason.BAD_TEXT, detail=f"{detail}: once where the clip is", file=source)


def _unwritable(text: str, source: str) -> Fault | None:
    """The fault of a text that no row can hold."""
    detail: str | None = None
    if len(text) > MAX_TEXT:
        detail = f"found a text of {len(text):,} characters, expected {MAX_TEXT:,} at most"
    elif not is_unicode(text):
        detail = f"the text is not valid UTF-8: {text[:80]!a}"
    return None if detail is None else Fault(reason=Reason.BAD_TEXT, detail=detail, file=source)
