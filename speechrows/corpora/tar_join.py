"""Join of a text index with one tar archive: conversations, each when its last clip has come."""

import itertools
import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from datasets.utils import logging

from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import folder_of
from speechrows.corpora.folder import Corpus
from speechrows.corpora.spill import SPILL_BYTES
from speechrows.corpora.spill import SpillBuffer
from speechrows.corpora.tar import Member
from speechrows.corpora.tar import members
from speechrows.corpora.text_index import TextIndex
from speechrows.corpora.text_index import TurnRecord
from speechrows.errors import printable
from speechrows.types import AudioRef
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import UnreadableFile

Clips = Mapping[int, AudioRef | Fault]  # by row of the index
Joined = tuple[int, Clips]  # the number of a conversation, and its clips
Strays = dict[str, tuple[int, str]]  # members that no turn uses, by what is odd: how many, the first

_MAX_DIGITS = 10  # of a slice's number: a longer one is part of a name
_ARCHIVE = re.compile(r".*\.(?:tar|tar\.gz|tgz)")

logger = logging.get_logger(__name__)


def slices_of(files: Sequence[Entry], slice_name: re.Pattern[str]) -> list[Entry]:
    """The files of one archive, in order: slices whose paths match `slice_name`, else the first tar."""
    slices = [entry for entry in files if slice_name.fullmatch(entry.path)]
    if slices:
        return [entry for entry in slices if folder_of(entry.path) == folder_of(slices[0].path)]
    return [entry for entry in files if _ARCHIVE.fullmatch(entry.path)][:1]


def missing_slice(slices: Sequence[Entry], slice_name: re.Pattern[str]) -> int | None:
    """The lowest number missing before the last slice; `slice_name` has the number as its first group."""
    names = [match[1] for entry in slices if (match := slice_name.fullmatch(entry.path))]
    numbers = {int(name) for name in names if name.isdecimal() and len(name) < _MAX_DIGITS}
    first = next(number for number in itertools.count() if number not in numbers)
    return first if first < max(numbers, default=-1) else None


class PendingClips:
    """Clips of incomplete conversations, and how many clips each conversation lacks."""

    def __init__(self, num_lacking: npt.NDArray[np.intp]) -> None:
        self._num_lacking = num_lacking
        self._buffer = SpillBuffer(SPILL_BYTES)
        self._clips: dict[str, str | Fault] = {}  # the path of one that is in the buffer, or its refusal

    def __contains__(self, key: str) -> bool:
        return key in self._clips

    def put(self, key: str, conversation: int, archive: str, member: Member) -> bool:
        """Keep a clip, or why it is refused. True if it is the last that its conversation lacked."""
        self._clips[key] = member.refused or f"{archive}/{member.name}"
        if member.refused is None:
            self._buffer.put(key, member.data)
        self._num_lacking[conversation] -= 1
        return not self._num_lacking[conversation]

    def take(self, key: str) -> AudioRef | Fault | None:
        """Return a clip, or its refusal, and forget it; None if it has not come."""
        clip = self._clips.pop(key, None)
        return AudioRef(path=clip, data=self._buffer.take(key)) if isinstance(clip, str) else clip


def count_stray(strays: Strays, what: str, member: Member) -> None:
    """Count a member that no turn uses; `what` is odd about it."""
    count, first = strays.get(what, (0, member.name))
    strays[what] = count + 1, first


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversations:
    """Which records of an index make which conversation: `order` are records, in runs that end at `ends`.

    `synthetic` numbers the conversations that are joined of several records; -1 for the others.
    """

    index: TextIndex
    order: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    synthetic: npt.NDArray[np.int64]

    @staticmethod
    def of(index: TextIndex, turns_per_conversation: int) -> "Conversations":
        """Each record by itself, or with a number, so many records of one exchange joined, in their order."""
        leader = np.arange(index.num_records)
        synthetic = np.full(index.num_records, -1, np.int64)
        if turns_per_conversation and len(leader):
            faulty = index.column("detail").is_valid().to_numpy()
            num_faults = np.add.reduceat(faulty, index.bounds[:-1], dtype=np.int64)
            single = np.flatnonzero((np.diff(index.bounds) == 2) & (num_faults == 0))
            group = np.arange(len(single)) // turns_per_conversation
            leader[single] = single[group * turns_per_conversation]
            synthetic[single] = group
        order = np.argsort(leader, kind="stable")
        leaders, counts = np.unique(leader, return_counts=True)
        return Conversations(index=index, order=order, ends=np.cumsum(counts), synthetic=synthetic[leaders])

    def __len__(self) -> int:
        return len(self.ends)

    def records(self, number: int) -> list[int]:
        """The records of a conversation."""
        start = int(self.ends[number - 1]) if number else 0
        return self.order[start : int(self.ends[number])].tolist()

    def rows(self, number: int) -> npt.NDArray[np.int64]:
        """The turns of a conversation, as rows of the index."""
        bounds = self.index.bounds
        return np.concatenate([np.arange(bounds[i], bounds[i + 1]) for i in self.records(number)])

    def turns(self, number: int) -> list[tuple[int, TurnRecord]]:
        """The turns of a conversation, each with its row of the index."""
        turns = [turn for record in self.records(number) for turn in self.index.turns(record)]
        return list(zip(self.rows(number).tolist(), turns, strict=True))

    def runs(self, num_bytes: int, run_bytes: int) -> list[tuple[range, int]]:
        """Divide an archive's conversations into runs of about `run_bytes` each, with what they weigh."""
        count = min(max(1, -(-num_bytes // run_bytes)), max(1, len(self)))
        bounds = [(i * len(self) // count, i * num_bytes // count) for i in range(count + 1)]
        return [(range(a, b), stop - start) for (a, start), (b, stop) in itertools.pairwise(bounds)]

    def by_row(self) -> npt.NDArray[np.int32]:
        """The number of every turn's conversation, by row of the index."""
        numbers = np.zeros(self.index.num_rows, np.int32)
        for number in range(len(self)):
            numbers[self.rows(number)] = number
        return numbers


class JoinedRuns:
    """An archive's conversations, read in runs of the order in which it completes them."""

    def __init__(self, corpus: Corpus, archive: Sequence[str], conversations: Conversations) -> None:
        """`archive` are the slices of one archive."""
        self._corpus = corpus
        self._archive = archive
        self._conversations = conversations
        self._stream: Iterator[Joined | UnreadableFile] | None = None
        self._num_read = 0  # conversations of the stream

    def read(self, run: range) -> Iterator[Joined | UnreadableFile]:
        """The conversations of a run: the stream goes on from the last run, or begins again."""
        if self._stream is None or run.start < self._num_read:
            self._stream, self._num_read = join(self._corpus, self._archive, self._conversations), 0
            if run.start:
                again = (
                    f"{self._corpus.label}: reading {self._archive[0]} and what follows again from the "
                    f"start: the first {run.start} of its {len(self._conversations)} conversations are "
                    "built already, or by another process"
                )
                logger.warning(printable(again))
        for joined in self._stream:
            is_of_run = self._num_read >= run.start
            self._num_read += not isinstance(joined, UnreadableFile)
            if is_of_run:
                yield joined
            if self._num_read == run.stop < len(self._conversations):  # the last run reads to the end
                return


def join(
    corpus: Corpus, archive: Sequence[str], conversations: Conversations
) -> Iterator[Joined | UnreadableFile]:
    """Every conversation, with its clips, once the archive has given the last; then those that lack some.

    `archive` are the slices of one archive.
    """
    pending = _IndexJoin(conversations, archive[0])
    for member in members(corpus, archive):
        if isinstance(member, UnreadableFile):
            yield member
        else:
            yield from map(pending.take, pending.put(member))
    for what, (count, name) in pending.strays.items():
        number = "1 member" if count == 1 else f"{count} members"
        detail = f"found {number} {what}, the first {name!a:.200}; expected each clip of the JSON once"
        yield UnreadableFile(file=archive[0], detail=detail, is_remark=True)
    yield from map(pending.take, pending.incomplete())


class _IndexJoin:
    """The conversations of an index that an archive has not completed yet."""

    def __init__(self, conversations: Conversations, archive: str) -> None:
        self._conversations = conversations
        self._index = conversations.index
        self._archive = archive
        self._numbers = conversations.by_row()
        self._has_clip = self._index.column("speech").is_valid().to_numpy()
        num_lacking = np.bincount(self._numbers[self._has_clip], minlength=len(conversations))
        self._pending = PendingClips(num_lacking)
        self._refused: dict[int, Fault] = {}
        self._is_incomplete = np.ones(len(conversations), np.bool_)
        self._has_come = np.zeros(self._index.num_rows, np.bool_)
        self.strays: Strays = {}

    def put(self, member: Member) -> list[int]:
        """Keep a member for the turns that name it. The conversations that it completes, as a rule none."""
        rows = self._index.rows_of(member.name)
        if member.refused is not None:
            self._refused |= dict.fromkeys(rows, member.refused)
            count_stray(self.strays, f"that are refused ({member.refused.reason})", member)
            return []
        lacking = [row for row in rows if not self._has_come[row]]
        if not lacking:
            count_stray(self.strays, "a second time" if rows else "that no record names", member)
            return []
        self._has_come[lacking] = True
        return [
            number
            for row, number in zip(lacking, self._numbers[lacking].tolist(), strict=True)
            if self._pending.put(str(row), number, self._archive, member)
        ]

    def take(self, number: int) -> Joined:
        """A conversation and its clips, with a fault for each that did not come."""
        self._is_incomplete[number] = False
        rows = self._conversations.rows(number)
        return number, {row: self._clip(row) for row in rows[self._has_clip[rows]].tolist()}

    def _clip(self, row: int) -> AudioRef | Fault:
        clip = self._pending.take(str(row)) or self._refused.get(row)
        if clip is not None:
            return clip
        name = self._index.column("speech")[row]
        detail = f"found no member {name!s:.200} in the archive, expected one; download it again"
        return Fault(reason=Reason.MISSING, detail=detail, file=self._archive)

    def incomplete(self) -> Iterator[int]:
        """The conversations that the archive did not complete, in the JSON's order."""
        return iter(np.flatnonzero(self._is_incomplete).tolist())
