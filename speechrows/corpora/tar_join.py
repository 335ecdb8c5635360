"""Conversations of a text index whose clips lie in an archive: met there, in its order, and made whole."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechrows.corpora.folder import Corpus
from speechrows.corpora.spill import WaitingRoom
from speechrows.corpora.tar import Member
from speechrows.corpora.tar import members
from speechrows.corpora.text_index import TextIndex
from speechrows.types import AudioRef
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import UnreadableFile

Clips = Mapping[int, AudioRef | Fault]  # by row of the index
Met = tuple[int, Clips]  # a conversation, and its clips


@dataclass(frozen=True, kw_only=True, slots=True)
class Talks:
    """Which records make which conversation: `order` are records, in runs that end at `ends`.

    `synthetic` says which conversations are joined, and as the how-manieth; -1 where one is not.
    """

    index: TextIndex
    order: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    synthetic: npt.NDArray[np.int64]

    @staticmethod
    def of(index: TextIndex, turns_per_conversation: int) -> "Talks":
        """Each record by itself, or those of one exchange joined, as many as told, in the JSON's order."""
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
        return Talks(index=index, order=order, ends=np.cumsum(counts), synthetic=synthetic[leaders])

    def __len__(self) -> int:
        return len(self.ends)

    def records(self, number: int) -> list[int]:
        """The records of a conversation."""
        start = int(self.ends[number - 1]) if number else 0
        return self.order[start : int(self.ends[number])].tolist()

    def rows(self) -> Iterator[npt.NDArray[np.int64]]:
        """The turns of every conversation, as rows of the index."""
        return (self.rows_of(number) for number in range(len(self)))

    def rows_of(self, number: int) -> npt.NDArray[np.int64]:
        """The turns of a conversation, as rows of the index."""
        bounds = self.index.bounds
        return np.concatenate([np.arange(bounds[i], bounds[i + 1]) for i in self.records(number)])

    def of_rows(self) -> npt.NDArray[np.int32]:
        """The conversation of every turn."""
        found = np.zeros(self.index.num_rows, np.int32)
        for number, rows in enumerate(self.rows()):
            found[rows] = number
        return found


def meet(corpus: Corpus, archive: Sequence[str], talks: Talks) -> Iterator[Met | UnreadableFile]:
    """Every conversation, with its clips, once the archive has given the last; then those that lack some."""
    waiting = _Waiting(talks, archive[0])
    for member in members(corpus, archive):
        if isinstance(member, UnreadableFile):
            yield member
        else:
            yield from map(waiting.take, waiting.put(member))
    for what, (count, name) in waiting.strays.items():
        said = "1 member" if count == 1 else f"{count} members"
        detail = f"found {said} {what}, the first {name!a:.200}; expected each clip of the JSON once"
        yield UnreadableFile(file=archive[0], detail=detail, is_remark=True)
    yield from map(waiting.take, waiting.incomplete())


class _Waiting:
    """Clips of an archive that wait until their conversation is complete."""

    def __init__(self, talks: Talks, archive: str) -> None:
        self._talks = talks
        self._archive = archive
        self._room = WaitingRoom()
        self._names: dict[int, str] = {}  # of the members that wait, by row
        self._refused: dict[int, Fault] = {}
        self._of_rows = talks.of_rows()
        self._has_clip = talks.index.column("speech").is_valid().to_numpy()
        self._left = np.bincount(self._of_rows[self._has_clip], minlength=len(talks))
        self._is_incomplete = np.ones(len(talks), np.bool_)
        self._is_met = np.zeros(talks.index.num_rows, np.bool_)
        self.strays: dict[str, tuple[int, str]] = {}  # what is wrong with members: how many, the first

    def put(self, member: Member) -> list[int]:
        """Let a member wait. The conversations that it completes: as a rule one, or none."""
        rows = self._talks.index.rows_of(member.name)
        if member.refused is not None:
            self._refused |= dict.fromkeys(rows, member.refused)
            self._stray(f"that are refused ({member.refused.reason})", member.name)
            return []
        if not rows or self._is_met[rows].all():
            self._stray("a second time" if rows else "that no record names", member.name)
            return []
        for row in rows:
            self._names[row] = member.name
            self._room.put(str(row), member.data)
            self._is_met[row] = True
            self._left[self._of_rows[row]] -= 1
        return [number for number in dict.fromkeys(self._of_rows[rows].tolist()) if not self._left[number]]

    def _stray(self, what: str, name: str) -> None:
        count, first = self.strays.get(what, (0, name))
        self.strays[what] = count + 1, first

    def take(self, number: int) -> Met:
        """A conversation and its clips, with a fault for each that did not come."""
        self._is_incomplete[number] = False
        rows = self._talks.rows_of(number)
        return number, {row: self._clip(row) for row in rows[self._has_clip[rows]].tolist()}

    def _clip(self, row: int) -> AudioRef | Fault:
        if (name := self._names.pop(row, None)) is not None:
            return AudioRef(path=f"{self._archive}/{name}", data=self._room.take(str(row)))
        detail = (
            f"found no member {self._talks.index.column('speech')[row]!s:.200} in the archive, expected one; "
            "download it again"
        )
        missing = Fault(reason=Reason.MISSING, detail=detail, file=self._archive)
        return self._refused.get(row, missing)

    def incomplete(self) -> Iterator[int]:
        """The conversations that the archive did not complete, in the JSON's order."""
        return iter(np.flatnonzero(self._is_incomplete).tolist())
