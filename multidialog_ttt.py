"""MultiDialog: 8 733 acted conversations on open topics, 187 859 utterances, 340 hours, 12 actors.

WAV, PCM 16, mono, 16 kHz, one file an utterance; who speaks to whom is given (human and gpt), so
that roles are the corpus' own. The speaker is the actor's letter, with which a clip's name ends.
Two actors read conversations of TopicalChat, turn by turn: there is no overlap and no timing
between turns. The Hub asks for a token (`hf auth login`, after its terms are accepted).

Read as published, for which `load_dataset` needs a loading script that datasets 4 refuses:
  data/<split>/<split>_chunks_0000.tar.gz             <conversation>/<conversation>_<turn>_<actor>.wav
  metadata/<split>/<split>_metadata_0000.jsonl        a line an utterance, in any order
or with one metadata.jsonl for every split that has none of its own. A line and its clip are joined
by the clip's file name. Archives are read as streams and never unpacked.

What is written of it elsewhere and does not hold: that an utterance_id is "utt_0" (it is a whole
number; both are read), that there are 9 920 dialogues in 150 GB (8 733 are released, in 33 GB), that
the speech is natural (it is read), that a conversation's rows lie together (they are shuffled, and
may span archives).

The splits keep their names: valid_freq and test_freq are on topics often met in train,
valid_rare and test_rare on others. So --validation-fraction is refused.
"""

import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from speechrows.builder import DIALOGUE_CONFIGS
from speechrows.builder import About
from speechrows.builder import BadClipError
from speechrows.builder import Corpus
from speechrows.builder import Dialogue
from speechrows.builder import Entry
from speechrows.builder import Fault
from speechrows.builder import Listing
from speechrows.builder import Reason
from speechrows.builder import Role
from speechrows.builder import SpeechBuilder
from speechrows.builder import SpeechConfig
from speechrows.builder import Task
from speechrows.builder import Traits
from speechrows.builder import Turn
from speechrows.builder import Unit
from speechrows.builder import UnreadableFile
from speechrows.builder import UsageError
from speechrows.builder import basename
from speechrows.builder import flag
from speechrows.builder import tar_lines
from speechrows.builder import traits
from speechrows.builder import turns

SOURCES = ("IVLLab/MultiDialog",)
SPLITS = ("train", "valid_freq", "valid_rare", "test_freq", "test_rare")
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


class MultiDialogReader:
    """Reads archives and their metadata.

    Where a split's archives and metadata files pair by number, as the publisher's, each pair is a unit;
    its payload is the number. It has a conversation if the line of its turn 0 stands there, and reads
    the other archives only for turns that stand elsewhere. Any other split is one unit, of payload None.
    """

    def __init__(self, corpus: Corpus, config: MultiDialogConfig, task: Task) -> None:  # noqa: ARG002
        self._corpus = corpus
        # Those read last, and their files: all of train's are 2 s and 100 MB.
        self._lines: tuple[list[str], tar_lines.TurnLines] | None = None

    def units(self, entries: list[Entry]) -> Listing[int | None]:
        """The units of each split; at the end, one of those that have no metadata of their own."""
        named = [entry for entry in entries if _FILE.match(basename(entry.path))]
        combined = [entry for entry in entries if basename(entry.path) == _COMBINED][:1]
        units: list[Unit[int | None]] = []
        words: list[str] = []
        without: list[Entry] = []  # archives of splits without metadata
        for split in SPLITS:
            files = [entry for entry in named if _split_of(entry.path) == split]
            archives = [entry for entry in files if _is_archive(entry.path)]
            metadata = [entry for entry in files if not _is_archive(entry.path)]
            if files:
                note = "" if archives else ", which are not read"
                words.append(f"{split} {len(archives)} archives and {len(metadata)} metadata files{note}")
            if archives and metadata:
                units += _units_of(split, archives, metadata)
            else:
                without += archives
        if without:
            splits = tuple(dict.fromkeys(_split_of(entry.path) for entry in without))
            units.append(_unit(None, [*combined, *without], without, splits))
            words += [f"{entry.path} for those that have none" for entry in combined]
            words += [] if combined else [f"no metadata for {', '.join(splits)}: not read"]
        return Listing(contents="; ".join(words) or "no <split>_chunks_<number>.tar.gz", units=units)

    def dialogues(self, unit: Unit[int | None]) -> Iterator[Dialogue | UnreadableFile]:
        """The dialogues of a unit, each when its last clip has come; incomplete ones at the end."""
        files = sorted(path for path in unit.opened if not _is_archive(path))
        if not files:  # nothing names a clip of theirs: not read, which takes minutes for no row
            yield from map(_undescribed, unit.opened)
            return
        lines, number = self._read_lines(files, unit.splits[0]), unit.payload or 0
        archives = sorted(path for path in unit.opened if _is_archive(path))
        numbers = {path: 0 if unit.payload is None else _number_of(path) for path in unit.opened}
        for path, lost in lines.lost.items():
            if numbers[path] == number:
                yield from lost
        join = tar_lines.LineJoin(self._corpus, archives, lines, numbers, number)
        for completed in join.complete():
            if isinstance(completed, UnreadableFile):
                yield completed
            else:
                yield self._dialogue(unit, completed, join.take(completed))
        all_splits = len(unit.splits) in (1, len(SPLITS))
        for incomplete in join.incomplete():
            # Metadata of all splits, beside the archives of some, describes conversations of the others.
            if all_splits or join.has_any(incomplete):
                yield self._dialogue(unit, incomplete, join.take(incomplete))

    def _read_lines(self, files: list[str], split: str) -> tar_lines.TurnLines:
        if self._lines is None or self._lines[0] != files:
            expected = "a JSON object with conv_id, utterance_id, from, value"
            lines = tar_lines.read_lines(self._corpus, files, _parse_line, split=split, expected=expected)
            self._lines = files, lines
        return self._lines[1]

    def _dialogue(
        self, unit: Unit[int | None], lines: Sequence[tar_lines.TurnLine], rows: Sequence[Turn]
    ) -> Dialogue:
        """A conversation; of metadata that is not a split's own, its split is its archive's."""
        clips = [turn.audio.path for turn in rows if turn.audio is not None]
        archives = (path for path in unit.opened if clips and clips[0].startswith(f"{path}/"))
        split = next(map(_split_of, archives), unit.splits[0])
        return Dialogue(
            conversation_id=f"{self._corpus.name}/{split}/{lines[0].conversation}",
            split=split,
            domain=None,
            turns=tuple(rows),
            twin_key=None,
            source=lines[0].file,
        )


def _units_of(split: str, archives: Sequence[Entry], metadata: Sequence[Entry]) -> list[Unit[int | None]]:
    """The units of a split that has both archives and metadata."""
    numbered = {_number_of(entry.path): entry for entry in archives}
    numbers = [_number_of(entry.path) for entry in metadata]
    is_unique = len(numbered) == len(archives) and len(set(numbers)) == len(numbers)
    if not is_unique or not set(numbered) <= set(numbers):
        return [_unit(None, [*archives, *metadata], archives, (split,))]
    units: list[Unit[int | None]] = []
    for number, described in zip(numbers, metadata, strict=True):
        own = numbered.get(number, described)
        others = [entry for entry in (*metadata, *archives) if entry is not own]
        units.append(_unit(number, [own, *others], [own], (split,)))
    return units


def _unit(
    number: int | None, files: Sequence[Entry], own: Sequence[Entry], splits: tuple[str, ...]
) -> Unit[int | None]:
    paths, weight = tuple(entry.path for entry in files), sum(entry.num_bytes for entry in own)
    return Unit(payload=number, opened=paths, num_bytes=weight, splits=splits)


def _is_archive(path: str) -> bool:
    match = _FILE.match(basename(path))
    return match is not None and match[1] is not None


@lru_cache(maxsize=256)
def _number_of(path: str) -> int:
    match = _FILE.match(basename(path))
    return int(match[1] or match[2]) if match else 0


def _split_of(path: str) -> str:
    return next((split for split in SPLITS if basename(path).startswith(f"{split}_")), SPLITS[0])


def _undescribed(archive: str) -> UnreadableFile:
    expected = f"metadata/{_split_of(archive)}/{_split_of(archive)}_metadata_0000.jsonl and the like"
    detail = f"found no metadata for this archive, expected {expected}, or metadata.jsonl; download them"
    return UnreadableFile(file=archive, detail=detail)


def _parse_line(record: Any, path: str, at: int) -> tar_lines.TurnLine:
    """A line's turn. Raises TypeError or ValueError where it is no object, or names no conversation."""
    if not isinstance(record, dict):
        raise TypeError(f"{type(record).__name__}")
    conversation, name = record.get("conv_id"), record.get("audpath", record.get("file_name"))
    if not conversation or not turns.is_text(conversation):
        raise ValueError(f"conv_id {conversation!a}")
    clip, number = basename(name) if isinstance(name, str) else "", _turn_number(record.get("utterance_id"))
    who, text, emotion = record.get("from"), record.get("value"), record.get("emotion")
    role = ROLES.get(who) if isinstance(who, str) else None
    fault: Fault | None = None
    try:
        if number is None:
            detail = f"found utterance_id {record.get('utterance_id')!a:.80}, expected a whole number from 0"
            raise BadClipError(Reason.BAD_NUMBER, f"{detail}, or utt_<number>")
        if role is None:
            detail = f"found from {who!a:.80}, expected {' or '.join(ROLES)}"
            raise BadClipError(Reason.BAD_SPEAKER, detail)
        turns.checked_text(text, "value")
        if not clip:
            raise BadClipError(Reason.MISSING, f"found audpath {name!a:.80}, expected the path of a clip")
    except BadClipError as error:
        fault = Fault(reason=error.reason, detail=f"line {at}: {error.detail}", file=path)
    turn = Turn(
        number=number or 0,
        speaker=_speaker(clip, record.get("speaker_id"), who),
        role=role,
        text=text if isinstance(text, str) else "",
        audio=None,
        traits=_traits(emotion) if isinstance(emotion, str) else traits.normalise(emotion=emotion),
        fault=fault,
    )
    return tar_lines.TurnLine(
        conversation=conversation, turn=turn, has_number=number is not None, clip=clip, file=path
    )


def _turn_number(value: Any) -> int | None:
    """An utterance_id as a number, from 0: 3, "3" and "utt_3" are the same; None where it is none."""
    match = _NUMBER.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    return turns.turn_number(int(match[1]) if match else value)


def _speaker(clip: str, speaker_id: Any, who: Any) -> str:
    """The actor's letter; where a clip's name has none, whatever else sets speakers apart."""
    if match := _ACTOR.fullmatch(clip):
        return match[1]
    return next((word for word in (speaker_id, who) if word and turns.is_text(word)), "")


@lru_cache(maxsize=256)
def _traits(emotion: str) -> Traits:
    return traits.normalise(emotion=emotion)


class MultiDialogTTT(SpeechBuilder):
    """MultiDialog as training rows."""

    ABOUT = ABOUT
    READER = MultiDialogReader
    BUILDER_CONFIG_CLASS = MultiDialogConfig
    BUILDER_CONFIGS = [MultiDialogConfig(name=name) for name in DIALOGUE_CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "ttt"
