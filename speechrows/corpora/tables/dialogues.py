"""Rows of a table -> a dialogue: ids, order, roles, texts, and what is wrong with each."""

import math
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import NamedTuple

import numpy as np

from speechrows.codec import CODECS
from speechrows.codec import check
from speechrows.corpora import traits
from speechrows.corpora import turns
from speechrows.corpora.tables.columns import Columns
from speechrows.corpora.tables.files import split_of_words
from speechrows.corpora.tables.gather import Row
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.roles import BY_TURNS
from speechrows.corpora.tables.roles import RoleRule
from speechrows.corpora.tables.roles import roles_of
from speechrows.corpora.tables.survey import Run
from speechrows.corpora.tables.survey import split_of
from speechrows.corpora.tables.survey import text_of
from speechrows.corpora.tables.survey import whole_number
from speechrows.corpora.utterances import first_answer
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Role
from speechrows.types import Span
from speechrows.types import Task
from speechrows.types import Traits
from speechrows.types import Turn

CODEC = CODECS["mimi"]  # of a column of codes


@dataclass(frozen=True, kw_only=True, slots=True)
class DialogueMaker:
    """Makes dialogues of the rows of tables, for a task."""

    names: ClipNames
    task: Task
    rule: RoleRule

    def dialogue(self, rows: Sequence[Row], run: Run) -> Dialogue:
        """The dialogue of a conversation's rows; one row may be a spoken question and its answer."""
        columns, (record, file, _) = run.columns, rows[0]
        split = split_of(record, columns, file)
        conversation = _first(rows, columns.conversation, text_of)
        name = self._name(rows[0], columns, conversation)
        is_joined = conversation is not None or len(rows) > 1
        positions = self._in_order(rows, run) if is_joined else [_Position(rows[0])]
        spoken = [self._turn(position, columns, is_joined=is_joined) for position in positions]
        if not is_joined and self.task.pairing == "exchange" and (spoken[0].fault or spoken[0].answer):
            spoken += [_answer(spoken[0])]
        speaker = None if is_joined else spoken[0].speaker
        return Dialogue(
            conversation_id=f"{self.names.corpus.name}/{split}/{name}",
            split=split,
            domain=_first(rows, columns.domain, _word),
            turns=tuple(spoken),
            twin_key=None if run.has_evaluation else speaker or f"{split}/{name}",
            source=file.path if file.path else record.place,
            system=_first(rows, columns.system, _word),
        )

    @staticmethod
    def _name(row: Row, columns: Columns, conversation: str | None) -> str:
        """What a dialogue is called by: its conversation, a row's own id, or the row's place."""
        own = (
            None if row.is_repeat or columns.conversation else text_of(row.record.cells.get(columns.id or ""))
        )
        return conversation or own or f"{row.file.stem}:{row.record.place.removeprefix(f'{row.file.path}:')}"

    def _turn(self, position: "_Position", columns: Columns, *, is_joined: bool) -> Turn:
        """A row as a turn; a fault of its own goes before one of its position."""
        row, number, role, misplaced = position
        record, cells = row.record, row.record.cells
        text, answer = cells.get(columns.text), first_answer(cells.get(columns.answer or ""))
        audio, codes, fault = None, None, record.fault
        try:
            if fault is None:
                audio = self._clip(row, columns)
                codes = self._codes(cells.get(columns.codes or ""))
                _check(row, columns, text, answer, is_joined=is_joined)
        except BadClipError as error:
            fault = turns.fault_of(error, record.place)
        raw: dict[str, Any] = {trait: cells.get(column) for trait, column in columns.traits.items()}
        return Turn(
            number=number,
            speaker=_speaker(row, columns),
            role=role,
            text=text if isinstance(text, str) else "",
            audio=audio,
            traits=traits.normalise(**raw) if raw else Traits(),
            fault=fault or misplaced,
            answer=answer if isinstance(answer, str) and answer else None,
            codes=codes,
            start_s=start if math.isfinite(start := _seconds(cells.get(columns.start or ""))) else None,
        )

    def _clip(self, row: Row, columns: Columns) -> AudioRef | None:
        """The clip of a row; None of one that has none, where a task takes text alone."""
        cells = row.record.cells
        if row.record.clip is not None:
            return row.record.clip
        if self.task.takes_text and cells.get(columns.audio) in (None, ""):
            return None
        offset, seconds = (_seconds(cells.get(name or "")) for name in (columns.offset, columns.duration))
        span = None
        if math.isfinite(offset):
            span = Span(start_s=offset, seconds=seconds if math.isfinite(seconds) else None)
        return AudioRef(path=self.names.path_of(cells.get(columns.audio), row.file), span=span)

    def _codes(self, lists: Any) -> Codes | None:
        """The codes of a row, where the task's rows have any."""
        if lists is None or self.task.codec_targets is None:
            return None
        if not isinstance(lists, list) or not all(isinstance(codes, list) for codes in lists):
            detail = f"found {lists!a:.80} as codes, expected a list of {CODEC.name} codes a codebook"
            raise BadClipError(Reason.BAD_CODES, detail)
        wrong = check(lists, CODEC)
        if wrong:
            raise BadClipError(Reason.BAD_CODES, wrong)
        return Codes(codec=CODEC.name, values=np.array(lists, np.int16))

    def _in_order(self, rows: Sequence[Row], run: Run) -> list["_Position"]:
        """The positions of a conversation's rows: by number, else by when they start, else as they come."""
        columns, wrong = run.columns, list[str | None]([None] * len(rows))
        if columns.turn:
            cells = [row.record.cells.get(columns.turn) for row in rows]
            known = [turns.turn_number(whole_number(cell), first=run.first_turn) for cell in cells]
            expected = f"a whole number from {run.first_turn}"
            wrong = [
                None if number is not None else f"found turn {cell!a:.80}, expected {expected}"
                for number, cell in zip(known, cells, strict=True)
            ]
            numbers = turns.numbered(known)
        else:
            starts = [_seconds(row.record.cells.get(columns.start or "")) for row in rows]
            if columns.start:
                wrong = [None if math.isfinite(at) else "found no start, expected seconds" for at in starts]
            order = sorted(range(len(rows)), key=starts.__getitem__)
            numbers = np.argsort(order).tolist()
        order = sorted(range(len(rows)), key=numbers.__getitem__)
        rows = [rows[i] for i in order]
        words = [_word(row.record.cells.get(columns.role or "")) for row in rows] if columns.role else None
        rule = self.rule if columns.speaker else replace(self.rule, assistant=BY_TURNS)
        speakers, places = [_speaker(row, columns) for row in rows], [row.record.place for row in rows]
        positions = list[_Position]()
        for i, row, role in zip(order, rows, roles_of(speakers, places, words, rule), strict=True):
            fault = role if isinstance(role, Fault) else None
            if (detail := wrong[i]) is not None:
                fault = Fault(reason=Reason.BAD_NUMBER, detail=detail, file=row.record.place)
            positions.append(_Position(row, numbers[i], None if isinstance(role, Fault) else role, fault))
        return positions


class _Position(NamedTuple):
    """A row's position in its conversation, the turn's number and role, and what is wrong with these."""

    row: Row
    number: int = 0
    role: Role | None = "user"
    fault: Fault | None = None


def _speaker(row: Row, columns: Columns) -> str:
    return text_of(row.record.cells.get(columns.speaker or "")) or ""


def _answer(turn: Turn) -> Turn:
    """The written answer to a turn, as a turn of the assistant."""
    return Turn(number=1, speaker="", role="assistant", text=turn.answer or "", audio=None)


def _check(row: Row, columns: Columns, text: Any, answer: Any, *, is_joined: bool) -> None:
    """Raises BadClipError: a row's cells can be no turn."""
    cells = row.record.cells
    if row.is_repeat and not is_joined:
        detail = f"found the id {cells.get(columns.id or '')!a:.80} again, expected each once in a split"
        raise BadClipError(Reason.BAD_NUMBER, detail)
    split = cells.get(columns.split or "")
    if split and row.file.split is None and not split_of_words(str(split)):
        detail = f"found the split {split!a:.80}, expected a name with train, validation (dev) or test"
        raise BadClipError(Reason.METADATA_DISAGREES, detail)
    if text is None:
        raise BadClipError(Reason.EMPTY_TEXT, "the text is null; expected words")
    turns.checked_text(text, columns.text)
    if answer is not None:
        turns.checked_text(answer, columns.answer or "")


def _first(rows: Sequence[Row], column: str | None, read: Callable[[Any], str | None]) -> str | None:
    """What the first row says that has anything in a column."""
    cells = (row.record.cells.get(column) for row in rows) if column else ()
    return next((value for value in map(read, cells) if value), None)


def _word(cell: Any) -> str | None:
    return cell if turns.is_text(cell) and cell.strip() else None


def _seconds(cell: Any) -> float:
    """A time as a number; infinity, which is last, where it is none."""
    try:
        value = float(cell) if isinstance(cell, str | int | float) else math.inf
    except ValueError:
        return math.inf
    return value if math.isfinite(value) else math.inf
