"""MultiDialog: 8 733 acted conversations on open topics, 187 859 utterances, 340 hours, 12 actors.

WAV, PCM 16, mono, 16 kHz, one file an utterance; who speaks to whom is told (human and gpt), so
that roles are the corpus' own. The speaker is the actor's letter, with which a clip's name ends.
Two actors read conversations of TopicalChat, turn by turn: there is no overlap and no timing
between turns. The Hub asks for a token (`hf auth login`, after its terms are accepted).

Read as published, for which `load_dataset` needs a loading script that datasets 4 refuses:
  data/<split>/<split>_chunks_0000.tar.gz             <conversation>/<conversation>_<turn>_<actor>.wav
  metadata/<split>/<split>_metadata_0000.jsonl        a line an utterance, in any order
or with one metadata.jsonl for every split that has none of its own. A line and its clip are joined
by the clip's file name. Archives are read as streams and never unpacked.

What is told of it elsewhere and does not hold: that an utterance_id is "utt_0" (it is a whole number;
both are read), that there are 9 920 dialogues in 150 GB (8 733 are released, in 33 GB), that the
speech is natural (it is read), that a conversation's rows lie together (they are shuffled, and may
span archives).

The splits keep their names: valid_freq and test_freq are on topics often met in train,
valid_rare and test_rare on others. So --validation-fraction is refused.

This file is longer than 300 lines: lines and archives come in any order, with every fault of both.
"""

import json
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Any

from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flag
from speechrows.builds.pipeline import Reader
from speechrows.card.prose import About
from speechrows.corpora import traits
from speechrows.corpora.folder import Corpus
from speechrows.corpora.folder import Entry
from speechrows.corpora.folder import basename
from speechrows.corpora.reader import Unit
from speechrows.corpora.spill import WAITING_BYTES
from speechrows.corpora.spill import WaitingRoom
from speechrows.corpora.tar import Member
from speechrows.corpora.tar import members
from speechrows.corpora.turns import is_text
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.rows.curriculum import DIALOGUE_CONFIGS
from speechrows.types import AudioRef
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Role
from speechrows.types import Task
from speechrows.types import Traits
from speechrows.types import Turn
from speechrows.types import UnreadableFile

SOURCES = ("IVLLab/MultiDialog",)
SPLITS = ("train", "valid_freq", "valid_rare", "test_freq", "test_rare")
CONFIGS = DIALOGUE_CONFIGS
ROLES: Mapping[Any, Role] = {"human": "user", "gpt": "assistant"}

ABOUT = About(
    title="MultiDialog",
    summary="Conversations on open topics read by pairs of actors with emotion, 340 hours of English speech.",
    licence="cc",
    licence_note=(
        "The corpus' card says cc, without saying which Creative Commons licence; the loading script it "
        "was published with says Apache 2.0. Ask its authors before commercial use."
    ),
    homepage="https://huggingface.co/datasets/IVLLab/MultiDialog",
    citation=(
        "@inproceedings{park2024lets,\n"
        "  title={Let's Go Real Talk: Spoken Dialogue Model for Face-to-Face Conversation},\n"
        "  author={Park, Se Jin and Kim, Chae Won and Rha, Hyeongseop and Kim, Minsu and Hong, Joanna and "
        "Yeo, Jeong Hun and Ro, Yong Man},\n"
        "  booktitle={Proceedings of the 62nd Annual Meeting of the Association for Computational "
        "Linguistics (Volume 1: Long Papers)},\n"
        "  year={2024}\n}"
    ),
    languages=("en",),
)

_FILE = re.compile(rf"(?:{'|'.join(SPLITS)})_(?:chunks_(\d+)\.(?:tar|tar\.gz|tgz)|metadata_(\d+)\.jsonl)$")
_COMBINED = "metadata.jsonl"
_NUMBER = re.compile(r"(?:utt_)?(\d{1,10})")
_ACTOR = re.compile(r".*_([A-Za-z])\.[^.]*")


def list_units(corpus: Corpus, entries: list[Entry]) -> tuple[str, list[Unit]]:  # noqa: ARG001
    """What was found in the corpus' listing, in words, and its units, split by split.

    Where a split's archives and metadata files pair by number, as the publisher's, each pair is a
    unit. It has a conversation if the line of its turn 0 stands there, and reads the other
    archives only for turns that stand elsewhere. Any other split is one unit.
    """
    named = [entry for entry in entries if _FILE.match(basename(entry.path))]
    combined = next((entry for entry in entries if basename(entry.path) == _COMBINED), None)
    units: list[Unit] = []
    words: list[str] = []
    without: list[Entry] = []  # archives of splits without metadata
    for split in SPLITS:
        mine = [entry for entry in named if _split_of(entry.path) == split]
        archives = [entry for entry in mine if _is_archive(entry.path)]
        metadata = [entry for entry in mine if not _is_archive(entry.path)]
        if mine:
            told = "" if archives else ", which are not read"
            words.append(f"{split} {len(archives)} archives and {len(metadata)} metadata files{told}")
        if archives and metadata:
            units += _units_of(split, archives, metadata)
        else:
            without += archives
    if combined is not None and without:
        words.append(f"{combined.path} for those that have none")
    if without:
        parts = without if combined is None else [combined, *without]
        splits = tuple(dict.fromkeys(_split_of(entry.path) for entry in without))
        units.append(_unit(parts, splits, sum(entry.num_bytes for entry in without)))
        if combined is None:
            words.append(f"no metadata for {', '.join(splits)}: not read")
    return "; ".join(words) or "no <split>_chunks_<number>.tar.gz", units


def _units_of(split: str, archives: Sequence[Entry], metadata: Sequence[Entry]) -> list[Unit]:
    """The units of a split that has both archives and metadata."""
    by_number = {_number_of(entry.path): entry for entry in archives}
    numbers = [_number_of(entry.path) for entry in metadata]
    if (
        not set(by_number) <= set(numbers)
        or len(by_number) < len(archives)
        or len(set(numbers)) < len(numbers)
    ):
        return [_unit([*archives, *metadata], (split,), sum(entry.num_bytes for entry in archives))]
    units: list[Unit] = []
    for number, described in zip(numbers, metadata, strict=True):
        own = by_number.get(number, described)
        others = [entry for entry in (*metadata, *archives) if entry is not own]
        units.append(_unit([own, *others], (split,), own.num_bytes, name=f"{number:04}"))
    return units


def _unit(parts: Sequence[Entry], splits: tuple[str, ...], num_bytes: int, name: str = "") -> Unit:
    own, *files = [entry.path for entry in parts]
    return Unit(file=own, name=name, files=tuple(files), num_bytes=num_bytes, splits=splits, opened=True)


def _is_archive(path: str) -> bool:
    match = _FILE.match(basename(path))
    return match is not None and match[1] is not None


@lru_cache(maxsize=256)
def _number_of(path: str) -> int:
    match = _FILE.match(basename(path))
    return int(match[1] or match[2]) if match else 0


def _split_of(path: str) -> str:
    return next((split for split in SPLITS if basename(path).startswith(f"{split}_")), SPLITS[0])


def read_dialogues(corpus: Corpus, units: Iterable[Unit]) -> Iterator[Dialogue | UnreadableFile]:
    """The dialogues of some units, each as soon as its last clip has come; incomplete ones at the end."""
    return _Reader()(corpus, units)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the metadata, as the turn that it tells of, whose audio has yet to be found."""

    conversation: str
    turn: Turn
    has_number: bool
    clip: str  # its file's name
    file: str  # that the line stands in


@dataclass(frozen=True, slots=True)
class _Metadata:
    """A split's lines."""

    conversations: dict[str, list[_Line]] = field(default_factory=dict[str, list[_Line]])
    clips: dict[str, _Line] = field(default_factory=dict[str, _Line])  # by file name
    bad: dict[str, list[Dialogue | UnreadableFile]] = field(
        default_factory=dict[str, list[Dialogue | UnreadableFile]]
    )  # what stands in for lines that tell of no turn, by file


def _read_metadata(corpus: Corpus, unit: Unit, paths: Sequence[str]) -> _Metadata:
    found = _Metadata()
    for path in paths:
        bad = found.bad.setdefault(path, [])
        try:
            lines = corpus.read(corpus.resolve("", path)).removeprefix(b"\xef\xbb\xbf").split(b"\n")
        except OSError as error:
            bad.append(UnreadableFile(file=path, detail=f"found {error.strerror}; expected lines of JSON"))
            continue
        except BadClipError as error:
            bad.append(UnreadableFile(file=path, detail=error.detail))
            continue
        for at, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                # Bytes that are no UTF-8 become lone surrogates: they cost their own turn, not the line.
                told = json.loads(line.decode(errors="surrogateescape"))
                _add(found, _line(told, path, at))
            except (ValueError, TypeError, RecursionError) as error:
                bad.append(_lost_line(f"{corpus.name}/{unit.splits[0]}", path, at, error))
    return found


def _add(found: _Metadata, line: _Line) -> None:
    other = found.clips.get(line.clip)
    if other is None or other.turn.fault is not None:
        found.clips[line.clip] = line
    elif line.clip:
        detail = f"found {line.clip!a:.200}, the clip of {other.conversation}, turn {other.turn.number} too"
        fault = Fault(reason=Reason.METADATA_DISAGREES, detail=detail, file=line.file)
        line = replace(line, turn=replace(line.turn, fault=line.turn.fault or fault))
    found.conversations.setdefault(line.conversation, []).append(line)


def _lost_line(above: str, path: str, at: int, error: Exception) -> Dialogue:
    """A line that tells of no turn is an item nevertheless: what could have become a row."""
    detail = (
        f"line {at}: found {error!s:.200}; expected a JSON object with conv_id, utterance_id, from, value"
    )
    fault = Fault(reason=Reason.UNREADABLE, detail=detail, file=path)
    turn = Turn(number=0, speaker="", role=None, text="", audio=None, fault=fault)
    name = f"{above}/{basename(path)}:{at}"
    return Dialogue(
        conversation_id=name, split=above.rpartition("/")[2], domain=None, turns=(turn,), twin_key=None,
        source=path,
    )  # fmt: skip


def _line(told: Any, path: str, at: int) -> _Line:
    """A line's turn. Raises TypeError or ValueError where it is no object, or names no conversation."""
    if not isinstance(told, dict):
        raise TypeError(f"{type(told).__name__}")
    conversation, name = told.get("conv_id"), told.get("audpath", told.get("file_name"))
    if not conversation or not is_text(conversation):
        raise ValueError(f"conv_id {conversation!a}")
    who, text, emotion = told.get("from"), told.get("value"), told.get("emotion")
    clip, number = basename(name) if isinstance(name, str) else "", _turn_number(told.get("utterance_id"))
    role = ROLES.get(who) if isinstance(who, str) else None
    fault: tuple[Reason, str] | None = None
    if number is None:
        found = f"found utterance_id {told.get('utterance_id')!a:.80}"
        fault = Reason.BAD_NUMBER, f"{found}, expected a whole number from 0, or utt_<number>"
    elif role is None:
        fault = Reason.BAD_SPEAKER, f"found from {who!a:.80}, expected {' or '.join(ROLES)}"
    elif not is_text(text):
        fault = Reason.BAD_TEXT, f"found value {text!a:.80}, expected a string of UTF-8"
    elif not clip:
        fault = Reason.MISSING, f"found audpath {name!a:.80}, expected the path of a clip"
    turn = Turn(
        number=number or 0,
        speaker=_speaker(clip, told.get("speaker_id"), who),
        role=role,
        text=text if isinstance(text, str) else "",
        audio=None,
        traits=_traits(emotion) if is_text(emotion) else Traits(),
        fault=fault and Fault(reason=fault[0], detail=f"line {at}: {fault[1]}", file=path),
    )
    return _Line(conversation, turn, number is not None, clip, path)


def _turn_number(told: Any) -> int | None:
    """An utterance_id as a number, from 0: 3, "3" and "utt_3" are the same; None where it is none."""
    if isinstance(told, str) and (match := _NUMBER.fullmatch(told)) and told.isascii():
        told = int(match[1])
    return told if type(told) is int and 0 <= told < 1 << 31 else None


def _speaker(clip: str, speaker_id: Any, who: Any) -> str:
    """The actor's letter; where a clip's name has none, whatever else tells speakers apart."""
    if match := _ACTOR.fullmatch(clip):
        return match[1]
    return next((word for word in (speaker_id, who) if word and is_text(word)), "")


@lru_cache(maxsize=256)
def _traits(emotion: str) -> Traits:
    return traits.normalise(emotion=emotion)


class _Reader:
    """Reads units. Keeps a split's lines from one to the next: all of train's are 2 s and 100 MB."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._held: _Metadata | None = None

    def __call__(self, corpus: Corpus, units: Iterable[Unit]) -> Iterator[Dialogue | UnreadableFile]:
        """The dialogues of some units."""
        for unit in units:
            paths = sorted(path for path in (unit.file, *unit.files) if not _is_archive(path))
            if not paths:  # nothing names a clip of theirs: not read, which takes minutes for no row
                yield from map(_undescribed, (unit.file, *unit.files))
                continue
            if self._held is None or paths != self._paths:
                self._paths, self._held = paths, _read_metadata(corpus, unit, paths)
            yield from _Reading(corpus, unit, self._held).dialogues()


def _undescribed(archive: str) -> UnreadableFile:
    expected = f"metadata/{_split_of(archive)}/{_split_of(archive)}_metadata_0000.jsonl and the like"
    detail = f"found no metadata for this archive, expected {expected}, or metadata.jsonl; download them"
    return UnreadableFile(file=archive, detail=detail)


class _Reading:
    """A unit being read: which clips its conversations still lack, and where the others wait."""

    def __init__(self, corpus: Corpus, unit: Unit, metadata: _Metadata) -> None:
        self._corpus = corpus
        self._unit = unit
        self._metadata = metadata
        self._archives = sorted(path for path in (unit.file, *unit.files) if _is_archive(path))
        self._own = [path for path in self._archives if not unit.name or _number_of(path) == int(unit.name)]
        self._conversations = {
            name: lines for name, lines in metadata.conversations.items() if self._has(lines)
        }
        self._lacking: dict[str, _Line] = {}  # by clip
        self._num_lacking: dict[str, int] = {}  # by conversation
        for name, lines in self._conversations.items():
            lacking = {line.clip: line for line in lines if line.turn.fault is None}
            self._lacking |= lacking
            self._num_lacking[name] = len(lacking)
        self._room = WaitingRoom(WAITING_BYTES)
        self._found: dict[str, tuple[str, str] | Fault] = {}  # by clip: its archive and name, or a refusal
        self._cut: dict[str, str] = {}  # archives that end too early, and how

    def _has(self, lines: Sequence[_Line]) -> bool:
        """Whether a conversation is this unit's: by its turn 0, else by its first line."""
        if not self._unit.name:
            return True
        beginning = [line for line in lines if line.has_number and line.turn.number == 0]
        return min(_number_of(line.file) for line in beginning or lines) == int(self._unit.name)

    def dialogues(self) -> Iterator[Dialogue | UnreadableFile]:
        """Everything that the unit holds."""
        for path, bad in self._metadata.bad.items():
            if not self._unit.name or _number_of(path) == int(self._unit.name):
                yield from bad
        for path in self._own:
            yield from self._read_to_the_end(path)
        if self._unit.name:
            yield from self._read_elsewhere()
        all_splits = len(self._unit.splits) in (1, len(SPLITS))
        for name in list(self._conversations):
            # Metadata of all splits, beside the archives of some, tells of conversations of the others.
            if all_splits or any(line.clip in self._found for line in self._conversations[name]):
                yield self._dialogue(name)

    def _read_to_the_end(self, path: str) -> Iterator[Dialogue | UnreadableFile]:
        seen: set[str] = set()
        unnamed: list[str] = []  # one of each, to be told
        twice: list[str] = []
        num_unnamed = num_twice = 0
        for member in members(self._corpus, [path]):
            if isinstance(member, UnreadableFile):
                self._cut[path] = member.detail
                yield member
                continue
            line = self._metadata.clips.get(member.basename)
            if line is None:
                if not member.basename.startswith("."):  # what some systems leave beside a file
                    num_unnamed, unnamed = num_unnamed + 1, unnamed or [member.name]
            elif line.clip in seen:
                num_twice, twice = num_twice + 1, twice or [member.name]
            else:
                seen.add(line.clip)
                yield from self._receive(path, member)
        if unnamed:
            detail = f"found {num_unnamed} members that no line names, as {unnamed[0]!a:.200}; expected"
            yield UnreadableFile(file=path, detail=f"{detail} one in the metadata for each", is_remark=True)
        if twice:
            detail = f"found {num_twice} members again, as {twice[0]!a:.200}; expected each clip once, and"
            yield UnreadableFile(file=path, detail=f"{detail} used the first", is_remark=True)

    def _read_elsewhere(self) -> Iterator[Dialogue]:
        """Look for what is lacking in the archives of its lines, then in those before and after.

        No farther: where a clip is in none, every archive of the split would be read for it.
        """
        for distance in (0, 1):
            for path in self._archives:
                if path not in self._own and (targets := self._targets(path, distance)):
                    yield from self._read_until(path, targets)

    def _targets(self, path: str, distance: int) -> set[str]:
        cut = {_number_of(path) for path in self._cut} if distance else set[int]()
        number = _number_of(path)
        return {
            clip
            for clip, line in self._lacking.items()
            if abs(_number_of(line.file) - number) == distance and _number_of(line.file) not in cut
        }

    def _read_until(self, path: str, targets: set[str]) -> Iterator[Dialogue]:
        """Read an archive as far as needed; what is wrong with it is told by its own unit."""
        for member in members(self._corpus, [path]):
            if isinstance(member, UnreadableFile):
                self._cut[path] = member.detail
                return
            yield from self._receive(path, member)
            targets.discard(member.basename)
            if not targets:
                return

    def _receive(self, path: str, member: Member) -> Iterator[Dialogue]:
        """Take a clip in, if it is lacking, and give its conversation when that has its last."""
        line = self._lacking.pop(member.basename, None)
        if line is None:
            return
        self._found[line.clip] = member.refused or (path, member.name)
        if member.refused is None:
            self._room.put(line.clip, member.data)
        self._num_lacking[line.conversation] -= 1
        if not self._num_lacking[line.conversation]:
            yield self._dialogue(line.conversation)

    def _dialogue(self, name: str) -> Dialogue:
        """A conversation in turn order, which is no longer waited for."""
        lines = self._conversations.pop(name)
        told = {line.turn.number for line in lines if line.has_number}
        # What is no number takes a free one, so that its fault costs no other turn where turns count alone.
        free = (number for number in count() if number not in told)
        split = self._split(lines)
        turns = [self._turn(line, line.turn.number if line.has_number else next(free)) for line in lines]
        return Dialogue(
            conversation_id=f"{self._corpus.name}/{split}/{name}",
            split=split,
            domain=None,
            turns=tuple(sorted(turns, key=lambda turn: turn.number)),
            twin_key=None,
            source=lines[0].file,
        )

    def _split(self, lines: Sequence[_Line]) -> str:
        """The split of a conversation: of metadata that is not a split's own, its archive's."""
        found = [place for line in lines if isinstance(place := self._found.get(line.clip), tuple)]
        return _split_of(found[0][0]) if found else self._unit.splits[0]

    def _turn(self, line: _Line, number: int) -> Turn:
        place = self._found.pop(line.clip, None) if line.turn.fault is None else None
        if isinstance(place, tuple):
            audio = AudioRef(path="/".join(place), data=self._room.take(line.clip))
            return replace(line.turn, number=number, audio=audio)
        return replace(line.turn, number=number, fault=line.turn.fault or place or self._missing(line))

    def _missing(self, line: _Line) -> Fault:
        number = _number_of(line.file)
        paths = [path for path in self._archives if not self._unit.name or _number_of(path) == number]
        if not paths:
            detail = f"found no archive {number:04}, expected one beside {basename(line.file)}; download it"
            return Fault(reason=Reason.MISSING, detail=detail, file=line.file)
        where = (
            basename(paths[0]) if len(paths) == 1 else f"the {len(paths)} archives of {self._unit.splits[0]}"
        )
        cut = next(
            (f". {basename(path)} is not whole: {self._cut[path]}" for path in paths if path in self._cut), ""
        )
        detail = f"found no member {line.clip!a:.200} in {where}, expected one{cut or '; download it again'}"
        return Fault(reason=Reason.MISSING, detail=detail, file=paths[0])


@dataclass
class MultiDialogConfig(SpeechConfig):
    """The flags of this corpus."""

    source: str | None = flag(SOURCES[0], f"the Hub repository: {SOURCES[0]}")

    def check(self) -> None:
        """Refuse values that make no rows, and a split beside the corpus' own.

        Raises:
            UsageError: which, what was found, what was expected.
        """
        super().check()
        if self.validation_fraction:
            raise UsageError(
                f"validation fraction: found {self.validation_fraction}, expected 0: {ABOUT.title} has "
                "valid_freq and valid_rare"
            )


class MultiDialogTTT(SpeechBuilder):
    """MultiDialog as training rows."""

    ABOUT = ABOUT
    BUILDER_CONFIG_CLASS = MultiDialogConfig
    BUILDER_CONFIGS = [MultiDialogConfig(name=name) for name in CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "ttt"

    list_units = staticmethod(list_units)
    read_dialogues = staticmethod(read_dialogues)

    @classmethod
    def reader(cls, config: SpeechConfig, task: Task) -> Reader:  # noqa: ARG003
        """What reads units: one a process, which keeps what it knows of a split from shard to shard."""
        return _Reader()
