"""A dialogue's items under a task's pairing, and what is wrong with them before a clip is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import LeftOut
from speechrows.types import Reason
from speechrows.types import Rule
from speechrows.types import Task
from speechrows.types import Turn


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
    for i, turn in enumerate(turns):
        clip_id = f"{dialogue.conversation_id}/{turn.number}"
        if task.pairing == "turn" or turn.role is None:
            number = turn.number if task.pairing == "turn" else len(items)
            items.append(Item(clip_id=clip_id, number=number, turn=turn))
        elif turn.role == "user":
            answer = turns[i + 1] if i + 1 < len(turns) else None
            if answer is None or answer.role == "user":
                left_out.append(LeftOut(clip_id=clip_id, rule=Rule.NO_ANSWER))
            else:
                items.append(Item(clip_id=clip_id, number=len(items), turn=turn, answer=answer))
    return items, left_out


def number_faults(dialogue: Dialogue, items: Sequence[Item], task: Task) -> dict[int, Fault]:
    """Faults of numbering by item: repeats everywhere, gaps too where the task is whole."""

    def fault(found: int, expected: str) -> Fault:
        detail = f"found turn number {found}, expected {expected}"
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


def text_fault(item: Item, source: str) -> Fault | None:
    """What is wrong with an item before its clips are read: its turns' own faults, then texts."""
    target = item.answer or item.turn
    for turn in (item.turn, target):
        if turn.fault is not None:
            return turn.fault
        if not turn.text.isascii() and not _is_unicode(turn.text):
            detail = f"the text is not valid UTF-8: {turn.text[:80]!a}"
            return Fault(reason=Reason.BAD_TEXT, detail=detail, file=source)
    if item.turn.audio is None:
        return Fault(reason=Reason.MISSING, detail="found no audio, expected a clip", file=source)
    if not target.text.strip():
        return Fault(reason=Reason.EMPTY_TEXT, detail="the text is empty; expected words", file=source)
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates: bytes that were no UTF-8, or a broken escape
        return False
    return True
