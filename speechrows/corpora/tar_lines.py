"""Lines of JSON, a turn each, beside numbered tar archives: conversations, each when its last clip has come.

Files of lines and archives pair by number. A conversation's lines, and its clips, may stand in several.
"""

import io
from codecs import BOM_UTF8
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

import numpy as np

from speechrows.corpora.entries import basename
from speechrows.corpora.folder import Corpus
from speechrows.corpora.tar import Member
from speechrows.corpora.tar import members
from speechrows.corpora.tar_join import PendingClips
from speechrows.corpora.tar_join import Strays
from speechrows.corpora.tar_join import count_stray
from speechrows.corpora.turns import MAX_TEXT_BYTES
from speechrows.corpora.turns import numbered
from speechrows.corpora.turns import parse_json
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Turn
from speechrows.types import UnreadableFile

_STRAYS = {  # and what is expected in their place
    "that no line names": "one in the metadata for each",
    "again": "each clip once, and used the first",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnLine:
    """A line as a turn, whose audio is yet to come."""

    conversation: str
    turn: Turn
    has_number: bool  # else turn.number is 0, and turn.fault says what was found
    clip: str  # its file's name
    file: str  # that the line stands in


ParseLine = Callable[[Any, str, int], TurnLine]  # a record, its file, the number of its line


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnLines:
    """The lines of some files, of a split."""

    split: str
    conversations: dict[str, list[TurnLine]] = field(default_factory=dict[str, list[TurnLine]])
    clips: dict[str, TurnLine] = field(default_factory=dict[str, TurnLine])  # by file name
    lost: dict[str, list[Dialogue | UnreadableFile]] = field(
        default_factory=dict[str, list[Dialogue | UnreadableFile]]
    )  # in place of lines that describe no turn, by file

    def add(self, line: TurnLine) -> None:
        """Add a line; where another has its clip, it has a fault."""
        other = self.clips.get(line.clip)
        if other is None or other.turn.fault is not None:
            self.clips[line.clip] = line
        elif line.clip:
            number = other.turn.number
            detail = f"found {line.clip!a:.200}, the clip of {other.conversation}, turn {number} too"
            fault = Fault(reason=Reason.METADATA_DISAGREES, detail=detail, file=line.file)
            line = replace(line, turn=replace(line.turn, fault=line.turn.fault or fault))
        self.conversations.setdefault(line.conversation, []).append(line)


def read_lines(
    corpus: Corpus, files: Sequence[str], parse_line: ParseLine, *, split: str, expected: str
) -> TurnLines:
    """Read files of JSON lines into memory.

    A line of which `parse_line` raises TypeError or ValueError is lost; `expected` says what it should be.
    """
    lines = TurnLines(split=split)
    for path in files:
        lost = lines.lost.setdefault(path, [])
        try:
            for number, line in enumerate(_lines(corpus, path), 1):
                if not line.removeprefix(BOM_UTF8).strip():
                    continue
                try:
                    if len(line) > MAX_TEXT_BYTES:
                        raise ValueError(f"more than {MAX_TEXT_BYTES >> 20} MiB without a line's end")
                    # Bytes that are no UTF-8 become lone surrogates: they cost their own turn, not the line.
                    # A byte order mark begins a file, or a line, where files were joined.
                    record = parse_json(line.decode(errors="surrogateescape").lstrip("\ufeff"))
                    lines.add(parse_line(record, path, number))
                except (ValueError, TypeError, RecursionError) as error:
                    detail = f"line {number}: found {error!s:.200}; expected {expected}"
                    lost.append(_lost_line(f"{corpus.name}/{split}", path, number, detail))
        except OSError as error:
            lost.append(UnreadableFile(file=path, detail=f"found {error.strerror}; expected lines of JSON"))
        except BadClipError as error:
            lost.append(UnreadableFile(file=path, detail=error.detail))
    return lines


def _lines(corpus: Corpus, path: str) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than MAX_TEXT_BYTES, a byte more than these."""
    path = corpus.resolve("", path)
    is_local = corpus.local_path(path) is not None
    with corpus.open_file(path) if is_local else io.BytesIO(corpus.read(path)) as file:
        while line := file.readline(MAX_TEXT_BYTES + 1):
            yield line.removesuffix(b"\n")
            while len(line) > MAX_TEXT_BYTES and not line.endswith(b"\n"):
                line = file.readline(MAX_TEXT_BYTES + 1)


def _lost_line(above: str, path: str, number: int, detail: str) -> Dialogue:
    """A line that describes no turn is an item nevertheless: it could have become a row."""
    fault = Fault(reason=Reason.UNREADABLE, detail=detail, file=path)
    turn = Turn(number=0, speaker="", role=None, text="", audio=None, fault=fault)
    return Dialogue(
        conversation_id=f"{above}/{basename(path)}:{number}",
        split=above.rpartition("/")[2],
        domain=None,
        turns=(turn,),
        twin_key=None,
        source=path,
    )


class LineJoin:
    """The conversations of one number, joined with their clips.

    A conversation has the number of its turn 0's line. The archives of that number are read whole. Of the
    others, those whose lines lack clips, then those before and after, are read as far as clips are
    lacking: no more, or a clip that is nowhere would have all of them read.
    """

    def __init__(
        self,
        corpus: Corpus,
        archives: Sequence[str],
        lines: TurnLines,
        numbers: Mapping[str, int],
        number: int,
    ) -> None:
        """`numbers` are those of archives and of the lines' files, by path."""
        self._corpus = corpus
        self._archives = archives
        self._lines = lines
        self._numbers = numbers
        self._number = number
        self._conversations = {
            i: group for i, group in enumerate(lines.conversations.values()) if self._home(group) == number
        }
        num_lacking = np.zeros(len(lines.conversations), np.intp)
        self._lacking: dict[str, tuple[int, int]] = {}  # conversation and number, by clip
        for i, group in self._conversations.items():
            clips = {line.clip: (i, numbers[line.file]) for line in group if line.turn.fault is None}
            num_lacking[i] = len(clips)
            self._lacking |= clips
        self._pending = PendingClips(num_lacking)
        self._cut: dict[str, str] = {}  # archives that end too early, and how

    def _home(self, lines: Sequence[TurnLine]) -> int:
        beginning = [line for line in lines if line.has_number and line.turn.number == 0]
        return min(self._numbers[line.file] for line in beginning or lines)

    def complete(self) -> Iterator[Sequence[TurnLine] | UnreadableFile]:
        """Read the archives; give each conversation when its last clip has come."""
        own = [path for path in self._archives if self._numbers[path] == self._number]
        for path in own:
            yield from self._read_whole(path)
        for distance in (0, 1):
            for path in self._archives:
                if path not in own and (names := self._expected(path, distance)):
                    yield from self._read_until(path, names)

    def incomplete(self) -> Iterator[Sequence[TurnLine]]:
        """The conversations that the archives did not complete."""
        return iter(self._conversations.values())

    def _read_whole(self, path: str) -> Iterator[Sequence[TurnLine] | UnreadableFile]:
        strays: Strays = {}
        seen: set[str] = set()
        for member in members(self._corpus, [path]):
            if isinstance(member, UnreadableFile):
                self._cut[path] = member.detail
                yield member
            elif member.basename not in self._lines.clips:
                if not member.basename.startswith("."):  # what some systems leave beside a file
                    count_stray(strays, "that no line names", member)
            elif member.basename in seen:
                count_stray(strays, "again", member)
            else:
                seen.add(member.basename)
                yield from self._put(path, member)
        for what in (what for what in _STRAYS if what in strays):
            count, first = strays[what]
            detail = f"found {count} members {what}, as {first!a:.200}; expected {_STRAYS[what]}"
            yield UnreadableFile(file=path, detail=detail, is_remark=True)

    def _expected(self, path: str, distance: int) -> set[str]:
        """The lacking clips whose lines stand `distance` numbers from an archive, and are not cut off."""
        cut = {self._numbers[path] for path in self._cut} if distance else set[int]()
        return {
            clip
            for clip, (_, number) in self._lacking.items()
            if abs(number - self._numbers[path]) == distance and number not in cut
        }

    def _read_until(self, path: str, clips: set[str]) -> Iterator[Sequence[TurnLine]]:
        """Read an archive until some clips have come; what is wrong with it, the join of its number says."""
        for member in members(self._corpus, [path]):
            if isinstance(member, UnreadableFile):
                self._cut[path] = member.detail
                return
            yield from self._put(path, member)
            clips.discard(member.basename)
            if not clips:
                return

    def _put(self, path: str, member: Member) -> Iterator[Sequence[TurnLine]]:
        """Keep a clip if it is lacking; give the conversation that it completes."""
        conversation, _ = self._lacking.pop(member.basename, (None, None))
        if conversation is not None and self._pending.put(member.basename, conversation, path, member):
            yield self._conversations.pop(conversation)

    def has_any(self, lines: Sequence[TurnLine]) -> bool:
        """Whether a clip of a conversation has come, or was refused."""
        return any(line.clip in self._pending for line in lines)

    def take(self, lines: Sequence[TurnLine]) -> list[Turn]:
        """The turns of a conversation, in order, with their clips, which are forgotten."""
        numbers = numbered([line.turn.number if line.has_number else None for line in lines])
        turns = [self._turn(line, number) for line, number in zip(lines, numbers, strict=True)]
        return sorted(turns, key=lambda turn: turn.number)

    def _turn(self, line: TurnLine, number: int) -> Turn:
        clip = line.turn.fault or self._pending.take(line.clip) or self._missing(line)
        if isinstance(clip, AudioRef):
            return replace(line.turn, number=number, audio=clip)
        return replace(line.turn, number=number, fault=clip)

    def _missing(self, line: TurnLine) -> Fault:
        number = self._numbers[line.file]
        paths = [path for path in self._archives if self._numbers[path] == number]
        if not paths:
            detail = f"found no archive {number:04}, expected one beside {basename(line.file)}; download it"
            return Fault(reason=Reason.MISSING, detail=detail, file=line.file)
        where = basename(paths[0]) if len(paths) == 1 else f"the {len(paths)} archives of {self._lines.split}"
        cut = [f". {basename(path)} is not whole: {self._cut[path]}" for path in paths if path in self._cut]
        advice = cut[0] if cut else "; download it again"
        detail = f"found no member {line.clip!a:.200} in {where}, expected one{advice}"
        return Fault(reason=Reason.MISSING, detail=detail, file=paths[0])
