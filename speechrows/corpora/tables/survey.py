"""A first look at the small columns of tables: which rows are a conversation, and what is read at a time."""

from array import array
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from speechrows.corpora.reader import Unit
from speechrows.corpora.tables.columns import Columns
from speechrows.corpora.tables.files import ARCHIVES
from speechrows.corpora.tables.files import FOLDER
from speechrows.corpora.tables.files import split_of_words
from speechrows.corpora.tables.folders import text_beside
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import Rows
from speechrows.corpora.tables.records import Table
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.turns import is_text
from speechrows.types import UnreadableFile

_RUN_BYTES = 32 << 20  # of rows that lie in order; a faulty unit costs no more
_LEAST_BYTES = 1 << 10  # that a row weighs, wherever its clip is
_SCATTERED = 0.1  # the share of rows that lie apart from their conversation, from which tables are scattered

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """Some rows of a table.

    `conversations` has the number of each row's conversation; None where each row is one. `to_end`: nothing
    of the table that is read comes after them. `offset` is the byte where the first begins, of text.
    `repeats` are those whose id an earlier row has.
    """

    file: TableFile
    rows: Rows
    conversations: Numbers | None = None
    to_end: bool = False
    offset: int = 0
    repeats: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Run:
    """What is read at a time: a run of conversations, wherever their rows lie.

    `first_turn` is what turns count from; `has_evaluation`: the tables have splits beside train.
    """

    columns: Columns
    parts: tuple[Part, ...] = ()
    lost: tuple[UnreadableFile, ...] = ()
    first_turn: int = 0
    has_evaluation: bool = False


@dataclass(kw_only=True)
class _Seen:
    """What is known of a table's rows, row by row."""

    file: TableFile
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    conversations: "array[int]" = field(default_factory=lambda: array("q"))
    names: "array[int]" = field(default_factory=lambda: array("q"))  # hashes of ids, 0 of none
    clips: list[str | None] = field(default_factory=list[str | None])  # that lie in files of their own
    lost: list[UnreadableFile] = field(default_factory=list[UnreadableFile])


class Survey:
    """The rows of tables and their conversations, numbered in the order in which they begin."""

    def __init__(self, columns: Columns, names: ClipNames, sizes: Mapping[str, int]) -> None:
        """`sizes` are those of the corpus' files, by path."""
        self._columns, self._names, self._sizes = columns, names, sizes
        self._paths = {path: path for path in sizes}  # one string a path, however many rows name it
        self._conversations: dict[tuple[str, str], int] = {}
        self._splits: list[str] = []  # of each conversation
        self._turns: set[int] = set()  # the least numbers of turns that were seen
        self._seen: list[_Seen] = []
        self._whole: list[TableFile] = []  # archives that were not looked at: each of their rows is by itself

    @property
    def num_conversations(self) -> int:
        """How many there are, but for archives that were not looked at."""
        return len(self._splits)

    @property
    def num_rows(self) -> int:
        """How many rows there are, but for these."""
        return sum(len(seen.numbers) for seen in self._seen)

    def add(self, file: TableFile, table: Table, *, holds_clips: bool) -> None:
        """Look at the small columns of a table; `holds_clips` says whether it holds its clips."""
        columns = self._columns
        wanted = [columns.conversation, columns.turn, columns.split, columns.id]
        names = [name for name in (*wanted, None if holds_clips else columns.audio) if name]
        if not names and file.kind in ARCHIVES:
            self._whole.append(file)
            return
        seen = _Seen(file=file)
        self._seen.append(seen)
        for record in table.read(names, None):
            if isinstance(record, UnreadableFile):
                seen.lost.append(record)
            else:
                self._add_row(seen, record, holds_clips=holds_clips)

    def _add_row(self, seen: _Seen, record: Record, *, holds_clips: bool) -> None:
        columns, cells = self._columns, record.cells
        split = split_of(record, columns, seen.file)
        conversation = text_of(cells.get(columns.conversation or ""))
        number = len(self._splits)
        if conversation is not None:
            number = self._conversations.setdefault((split, conversation), number)
            turn = whole_number(cells.get(columns.turn or ""))
            if turn is not None and turn in (0, 1):
                self._turns.add(turn)
        if number == len(self._splits):
            self._splits.append(split)
        name = text_of(cells.get(columns.id or "")) if columns.conversation is None else None
        seen.numbers.append(record.number)
        seen.offsets.append(record.offset)
        seen.conversations.append(number)
        seen.names.append(0 if name is None else hash((split, name)) or 1)
        if not holds_clips:
            seen.clips.append(self._names.listed(cells.get(columns.audio), seen.file, self._paths))

    def is_scattered(self) -> bool:
        """Whether many rows lie apart from their conversation."""
        codes = self._codes()
        if not len(codes):
            return False
        begins = np.zeros(len(codes), np.bool_)
        begins[np.unique(codes, return_index=True)[1]] = True
        follows = np.concatenate([[False], codes[1:] == codes[:-1]])
        return float(np.mean(~begins & ~follows)) > _SCATTERED

    def _codes(self) -> Numbers:
        """The number of each row's conversation, one table after another."""
        return _joined(seen.conversations for seen in self._seen)

    def units(self, scattered_bytes: int) -> list[Unit[Run]]:
        """The runs of conversations, of about `scattered_bytes` where rows are scattered over the tables."""
        codes, weights = self._codes(), self._weights()
        order = np.argsort(codes, kind="stable")
        _, begins = np.unique(codes[order], return_index=True)
        sums = np.add.reduceat(weights[order], begins) if len(begins) else weights
        size = scattered_bytes if self.is_scattered() else _RUN_BYTES
        numbers = (np.cumsum(sums) - sums) // size  # of the run of each conversation
        cuts = begins[np.flatnonzero(np.diff(numbers, prepend=-1))].tolist()
        repeats = self._repeats()
        units = [self._unit_of(seen.file, lost=tuple(seen.lost)) for seen in self._seen if seen.lost]
        for start, stop in pairwise([*cuts, len(codes)]):
            rows = np.sort(order[start:stop])
            units.append(self._unit(rows, codes[rows], int(weights[rows].sum()), repeats))
        return [*units, *(self._unit_of(file) for file in self._whole)]

    @cached_property
    def _starts(self) -> Numbers:
        """The number of each table's first row, all tables' rows being numbered in one; and of their end."""
        return np.cumsum([0, *(len(seen.numbers) for seen in self._seen)])

    def _weights(self) -> Numbers:
        weights = [np.empty(0, np.int64)]
        for seen in self._seen:
            if seen.clips:
                sizes = [self._sizes[clip] if clip else 0 for clip in seen.clips]
                weights.append(np.maximum(np.asarray(sizes, np.int64), _LEAST_BYTES))
            else:
                each = max(_LEAST_BYTES, seen.file.num_bytes // max(1, len(seen.numbers)))
                weights.append(np.full(len(seen.numbers), each, np.int64))
        return np.concatenate(weights)

    def _repeats(self) -> npt.NDArray[np.bool_]:
        """Whether an earlier row has a row's id, row by row."""
        names = _joined(seen.names for seen in self._seen)
        is_repeat = np.ones(len(names), np.bool_)
        is_repeat[np.unique(names, return_index=True)[1]] = False
        return is_repeat & (names != 0)

    def _unit(
        self, rows: Numbers, codes: Numbers, num_bytes: int, repeats: npt.NDArray[np.bool_]
    ) -> Unit[Run]:
        """The unit of rows of all tables, numbered one table after another, and of their conversations."""
        starts, ends = self._starts, rows[[0, -1]]
        is_joined = len(np.unique(codes)) < len(codes)
        parts, files = list[Part](), list[str]()
        begin, end = np.searchsorted(starts, ends, "right").tolist()  # tables without a row share their start
        for at in range(begin - 1, end):
            first, last = np.searchsorted(rows, starts[at : at + 2]).tolist()
            if first < last:
                seen, own = self._seen[at], rows[first:last] - starts[at]
                numbers = np.asarray(seen.numbers, np.int64)[own]
                is_run = numbers[-1] - numbers[0] == len(numbers) - 1
                parts.append(
                    Part(
                        file=seen.file,
                        rows=range(int(numbers[0]), int(numbers[-1]) + 1) if is_run else numbers,
                        conversations=codes[first:last] if is_joined else None,
                        to_end=bool(own[-1] == len(seen.numbers) - 1) and not seen.lost,
                        offset=seen.offsets[int(own[0])],
                        repeats=frozenset(numbers[repeats[rows[first:last]]].tolist()),
                    )
                )
                clips = [clip for i in own.tolist() if seen.clips and (clip := seen.clips[i])]
                files += clips
                files += map(text_beside, clips) if seen.file.kind == FOLDER else []
        splits = tuple(sorted({self._splits[code] for code in np.unique(codes).tolist()}))
        return Unit(
            payload=self._run(tuple(parts)),
            opened=tuple(part.file.path for part in parts if part.file.kind != FOLDER),
            files=tuple(dict.fromkeys(files)),
            num_bytes=num_bytes,
            splits=splits,
        )

    def _unit_of(self, file: TableFile, lost: tuple[UnreadableFile, ...] | None = None) -> Unit[Run]:
        """The unit of an archive that was not looked at, or of what was lost of a table."""
        parts = () if lost else (Part(file=file, rows=ALL, to_end=True),)
        return Unit(
            payload=self._run(parts, lost or ()),
            opened=(file.path,),
            num_bytes=0 if lost else file.num_bytes,
            splits=(file.split or "train",),
        )

    def _run(self, parts: tuple[Part, ...], lost: tuple[UnreadableFile, ...] = ()) -> Run:
        return Run(
            columns=self._columns,
            parts=parts,
            lost=lost,
            first_turn=min(self._turns, default=0),
            has_evaluation=self._has_evaluation,
        )

    @cached_property
    def _has_evaluation(self) -> bool:
        return {*self._splits, *(file.split or "train" for file in self._whole)} != {"train"}


def _joined(columns: "Iterable[array[int]]") -> Numbers:
    return np.concatenate([np.empty(0, np.int64), *(np.asarray(column, np.int64) for column in columns)])


def lost_unit(columns: Columns, file: TableFile, detail: str) -> Unit[Run]:
    """The unit of a table that can not be read at all."""
    lost = UnreadableFile(file=file.path, detail=detail)
    return Unit(payload=Run(columns=columns, lost=(lost,)), opened=(file.path,), num_bytes=0)


def split_of(record: Record, columns: Columns, file: TableFile) -> str:
    """The split of a row: its column's, else its file's; train where neither tells one."""
    cell = record.cells.get(columns.split) if columns.split else None
    return (split_of_words(cell) if isinstance(cell, str) else None) or file.split or "train"


def text_of(cell: Any) -> str | None:
    """A cell that names something, in words; None where it is empty, or names nothing."""
    if isinstance(cell, float) and cell.is_integer():  # pandas writes 1.0 where a cell of the column is empty
        cell = int(cell)
    is_name = is_text(cell) or (isinstance(cell, int) and not isinstance(cell, bool))
    return (str(cell).strip() or None) if is_name else None


def whole_number(cell: Any) -> int | None:
    """A cell as a whole number: 3, 3.0 and "3"; None where it is none."""
    if isinstance(cell, str):
        digits = cell.strip().removesuffix(".0")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() else None
    return cell if isinstance(cell, int) and not isinstance(cell, bool) else None
