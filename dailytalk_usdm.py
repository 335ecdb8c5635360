"""DailyTalk: 2 541 dialogues of two voice actors, 20 hours, 44.1 kHz WAV, one file a turn.

Speakers are 0 (a man) and 1 (a woman); either may begin. They are peers, not user and assistant: here
the first speaker is the user, `--swap-roles` gives the other view, and `usdm` takes every two turns
that follow one another, as USDM does.

Read are data/<d>/<turn>_<speaker>_d<d>.wav, the .txt of that name, metadata.json and the phone lists
of the corpus' repository: train_phone.txt and val_phone.txt, or train.txt and test.txt as USDM renames
them. Any may be missing but the audio. A text is that of metadata.json, else of the .txt, else of the
list. Audio may be resampled; only data/ is read where there are copies beside it.

The lists decide the split, train or test; without lists all is train. Nine dialogues are in no list,
because their phones could not be aligned: they are train. With `--as-listed` they are left out, and
texts are the lists' (lower case, numbers in words), which is what USDM was made from: 20 042 and 1 058
pairs, before the cut at 8 192 tokens.
"""

import re
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from speechrows.builder import CORRESPOND
from speechrows.builder import DIALOGUE_CONFIGS
from speechrows.builder import NUM_UNITS
from speechrows.builder import About
from speechrows.builder import AudioRef
from speechrows.builder import BadClipError
from speechrows.builder import Corpus
from speechrows.builder import Dialogue
from speechrows.builder import Entry
from speechrows.builder import Listing
from speechrows.builder import Reason
from speechrows.builder import SpeechBuilder
from speechrows.builder import SpeechConfig
from speechrows.builder import Task
from speechrows.builder import Turn
from speechrows.builder import Unit
from speechrows.builder import UnreadableFile
from speechrows.builder import UsageError
from speechrows.builder import basename
from speechrows.builder import flag
from speechrows.builder import folder_of
from speechrows.builder import traits
from speechrows.builder import turns

GENDERS = {"0": "male", "1": "female"}  # of the two speakers
METADATA = "metadata.json"
LISTS = {"train": ("train.txt", "train_phone.txt"), "test": ("test.txt", "val_phone.txt")}

ABOUT = About(
    title="DailyTalk",
    summary="Daily conversations read by two voice actors, 20 hours of English speech.",
    licence="cc-by-sa-4.0",
    licence_note="Others list the MIT licence, which is that of the corpus' code alone.",
    homepage="https://github.com/keonlee9420/DailyTalk",
    citation=(
        "@misc{lee2022dailytalk,\n"
        "  title={DailyTalk: Spoken Dialogue Dataset for Conversational Text-to-Speech},\n"
        "  author={Lee, Keon and Park, Kyumin and Kim, Daeyoung},\n"
        "  year={2022},\n  eprint={2207.01063},\n  archivePrefix={arXiv}\n}\n"
        "@misc{kim2024usdm,\n"
        "  title={Paralinguistics-Aware Speech-Empowered Large Language Models for Natural Conversation},\n"
        "  author={Kim, Heeseung and Seo, Soonshin and Jeong, Kyeongseok and Kwon, Ohsung and Kim, Soyoon "
        "and Kim, Jungwhan and Lee, Jaehong and Song, Eunwoo and Oh, Myungwoo and Ha, Jung-Woo and Yoon, "
        "Sungroh and Yoo, Kang Min},\n"
        "  year={2024},\n  eprint={2402.05706},\n  archivePrefix={arXiv}\n}"
    ),
    languages=("en",),
)

_STEM = r"(\d{1,9})_([^_/]+)_d(\d{1,9})"  # turn, speaker, dialogue: of a clip, and of a list's line
_CLIP = re.compile(_STEM + turns.AUDIO_SUFFIX, re.IGNORECASE)
_MOST_MISSING = 100  # turns in a row that a dialogue may lack; what is beyond is no turn of it


@dataclass
class DailyTalkConfig(SpeechConfig):
    """The flags of this corpus."""

    EXTRA_TOKENS = (CORRESPOND, *(f"<|unit{i}|>" for i in range(NUM_UNITS)))

    as_listed: bool = flag(False, "only the dialogues of the phone lists, with their cleaned texts, as USDM")
    supervise_eos: bool = flag(True, "teach usdm rows to end; as published, they are not")
    swap_roles: bool = flag(False, "the first speaker is the assistant")


@dataclass(frozen=True, kw_only=True, slots=True)
class _TurnRecord:
    """A turn as it is described, unchecked. `fault` says why there is no such turn."""

    number: int
    metadata: Any = None  # what metadata.json says of it
    line: dict[str, str] = field(default_factory=dict[str, str])  # of a list: speaker, text, emotion
    clips: list[str] = field(default_factory=list[str])
    fault: str | None = None


class DailyTalkReader:
    """Joins four descriptions of a turn. A unit's payload is a dialogue's number, or a faulty file's path."""

    def __init__(self, corpus: Corpus, config: DailyTalkConfig, task: Task) -> None:  # noqa: ARG002
        self._corpus, self._config = corpus, config
        self._descriptions: _Descriptions | None = None  # read once: they are of all dialogues

    def units(self, entries: list[Entry]) -> Listing[str]:
        """The dialogues: all of the corpus, or with `as_listed` those of the phone lists."""
        data, files = _dialogue_files(entries)
        described = self._descriptions = _Descriptions(self._corpus, [entry.path for entry in entries])
        as_listed, lists = self._config.as_listed, [p for p, kind in described.files.items() if kind in LISTS]
        if as_listed and not lists:
            names = " and ".join(sum(LISTS.values(), ()))
            raise UsageError(f"--as-listed: found no phone list; expected {names}")
        numbers = sorted({*files, *described.turns, *described.lines}, key=int)
        unlisted = [number for number in numbers if lists and number not in described.splits]
        note = f"; {len(unlisted)} in no list are {'left out' if as_listed else 'train'}" if unlisted else ""
        contents = (
            f"{len(files)} dialogues in {data or 'no folder'}, {len(described.turns)} in {METADATA}, "
            f"{len(described.splits)} in {' and '.join(lists) or 'no phone list'}{note}"
        )
        faulty = dict.fromkeys(fault.file for fault in described.faults)
        chosen = [number for number in numbers if not (as_listed and number in unlisted)]
        units = [
            Unit(
                payload=payload,
                opened=tuple(described.files),
                files=tuple(entry.path for entry in files.get(payload, ())),
                num_bytes=sum(entry.num_bytes for entry in files.get(payload, ())),
                splits=(described.splits.get(payload, "train"),),
            )
            for payload in (*faulty, *chosen)
        ]
        return Listing(contents=contents, units=units)

    def dialogues(self, unit: Unit[str]) -> Iterator[Dialogue | UnreadableFile]:
        """The dialogue of a unit, or the faults of a description file."""
        described = self._descriptions = self._descriptions or _Descriptions(self._corpus, unit.opened)
        if unit.payload in unit.opened:
            yield from (fault for fault in described.faults if fault.file == unit.payload)
            return
        spoken = [self._turn(record, unit) for record in _turn_records(unit, described)]
        first = next((turn.speaker for turn in spoken if turn.speaker in GENDERS), None)
        roles = {who: turns.role_of(who, first, swap_roles=self._config.swap_roles) for who in GENDERS}
        metadata = [value for _, value in described.turns.get(unit.payload, []) if isinstance(value, dict)]
        yield Dialogue(
            conversation_id=f"dailytalk/{unit.payload}",
            split=unit.splits[0],
            domain=next((value["topic"] for value in metadata if turns.is_text(value.get("topic"))), None),
            turns=tuple(replace(turn, role=roles.get(turn.speaker)) for turn in spoken),
            twin_key=None if described.splits else unit.payload,
            source=unit.file,
        )

    def _turn(self, record: _TurnRecord, unit: Unit[str]) -> Turn:
        """A turn, whose role depends on others."""
        metadata: dict[str, Any] = record.metadata if isinstance(record.metadata, dict) else {}
        mood = metadata.get("emotion") or record.line.get("emotion")
        speaker = text = ""
        audio = fault = None
        try:
            speaker = _speaker(record, metadata)
            audio = AudioRef(path=self._corpus.resolve("", _clip(record, unit)))
            text = turns.checked_text(self._text(record, metadata, unit))
        except BadClipError as error:
            fault = turns.fault_of(error, unit.file)
        tone = traits.normalise(emotion=mood, gender=GENDERS.get(speaker))
        return Turn(
            number=record.number, speaker=speaker, role=None, text=text, audio=audio, traits=tone, fault=fault
        )

    def _text(self, record: _TurnRecord, metadata: dict[str, Any], unit: Unit[str]) -> Any:
        """The text by metadata, else by the clip's .txt, else by the list; or by the list alone."""
        if self._config.as_listed:
            if not record.line:
                raise BadClipError(Reason.MISSING, "found no line in the phone lists, expected one a turn")
            return record.line["text"]
        text, beside = metadata.get("text"), f"{record.clips[0].rpartition('.')[0]}.txt"
        if text in (None, "") and beside in unit.files:
            try:
                text = turns.read_text(self._corpus, beside).strip()
            except OSError as error:
                raise BadClipError(Reason.UNREADABLE, f"{beside}: {error.strerror}") from error
        return (record.line.get("text") if text in (None, "") else text) or ""


def _dialogue_files(entries: list[Entry]) -> tuple[str, dict[str, list[Entry]]]:
    """The folder of the dialogues' folders, `data` where there are several, and each dialogue's files."""
    folders: dict[str, dict[str, list[Entry]]] = {}
    for entry in entries:
        folder = entry.path if entry.refused and _number(basename(entry.path)) else folder_of(entry.path)
        if number := _number(basename(folder)):
            folders.setdefault(folder_of(folder), {}).setdefault(number, []).append(entry)
    named = [folder for folder in folders if basename(folder) == "data"]
    if len(folders) > 1 and len(named) != 1:
        names = ", ".join(sorted(folders))
        raise UsageError(f"found dialogues in {names}; expected one folder of them, data/")
    data = "".join(named or folders)
    return data, folders.get(data, {})


class _Descriptions:
    """What metadata.json and the phone lists say, by dialogue, and the faults of those files."""

    def __init__(self, corpus: Corpus, paths: Sequence[str]) -> None:
        """Read those that are among `paths`. Raises UsageError where one is broken."""
        self.files: dict[str, str] = {}  # what each is: METADATA, or the split of a list
        self.turns: dict[str, list[tuple[str, Any]]] = {}  # of metadata.json: keys and values as they stand
        self.lines: dict[str, dict[int, dict[str, str]]] = {}  # of the lists, by turn
        self.splits: dict[str, str] = {}
        self.faults: list[UnreadableFile] = []
        for kind, names in {METADATA: (METADATA,), **LISTS}.items():
            ranks = [(p.count("/"), names.index(basename(p)), p) for p in paths if basename(p) in names]
            if ranks:
                self._read(corpus, min(ranks)[2], kind)  # the topmost

    def _read(self, corpus: Corpus, path: str, kind: str) -> None:
        self.files[path] = kind
        try:
            text = turns.read_text(corpus, path)
            faults = self._read_metadata(text) if kind == METADATA else self._read_list(kind, text)
            self.faults += [UnreadableFile(file=path, detail=detail) for detail in faults]
        except (ValueError, RecursionError, OSError, BadClipError) as error:
            detail = f"found {turns.describe_error(error)}; expected what DailyTalk publishes"
            raise UsageError(f"{path}: {detail}. Download it again, or remove it") from error

    def _read_metadata(self, text: str) -> Iterator[str]:
        """Yields faults. Raises ValueError: it is no JSON object."""
        # An object with a key twice stays a list of its pairs.
        record = turns.parse_json(text, object_pairs_hook=lambda p: dict(p) if len(dict(p)) == len(p) else p)
        dialogues = _items(record)
        if dialogues is None:
            raise ValueError("JSON of another kind than an object of dialogues")
        for key, value in dialogues:
            number, items = _number(key), _items(value)
            if not number or items is None:
                what = f"dialogue {key}, a {type(value).__name__}" if number else f"dialogue {key!a:.80}"
                yield f"found {what}; expected an object of turns under the dialogue's number"
            elif number in self.turns:
                yield f"found dialogue {number} again; expected it once. The first is read"
            else:
                self.turns[number] = items

    def _read_list(self, split: str, text: str) -> Iterator[str]:
        """Yields a fault. Raises ValueError: no line of it is one, so that it can not say what is test."""
        bad: list[str] = []
        num_good = 0
        for at, line in enumerate(text.split("\n"), 1):
            name, *cells = line.strip().split("|")
            match = re.fullmatch(_STEM, name)
            if match and len(cells) == 4:
                number, num_good = str(int(match[3])), num_good + 1
                self.splits.setdefault(number, split)  # of a dialogue in both, the train list's, as USDM does
                values = {"speaker": cells[0], "text": cells[2], "emotion": cells[3]}
                self.lines.setdefault(number, {}).setdefault(int(match[1]), values)
            elif line.strip():
                bad.append(f"line {at}, {line!a:.120}")
        if bad and not num_good:
            raise ValueError(f"found {len(bad)} bad lines, first {bad[0]}")
        if bad:
            yield f"found {len(bad)} bad lines, first {bad[0]}; expected name|speaker|phones|text|emotion"


def _turn_records(unit: Unit[str], described: _Descriptions) -> list[_TurnRecord]:
    """The turns of a dialogue in order, by all descriptions; a gap is a fault, so that no pair spans it."""
    clips: dict[int, list[str]] = {}
    for path in unit.files:
        match = _CLIP.fullmatch(basename(path))
        if match and _number(match[3]) == _number(basename(folder_of(path))) == unit.payload:
            clips.setdefault(int(match[1]), []).append(path)
    items, lines = described.turns.get(unit.payload, []), described.lines.get(unit.payload, {})
    metadata = [(int(key), value) for key, value in items if _number(key)]
    metadata += [(number, None) for number in {*clips, *lines} - {number for number, _ in metadata}]
    records: list[_TurnRecord] = []
    after = 0
    for number, value in sorted(metadata, key=lambda pair: pair[0]):
        if number - after > _MOST_MISSING:
            records.append(_TurnRecord(number=number, fault=f"found turn number {number}, expected {after}"))
            continue
        gap = f"found turn {number}, and nothing of this one; expected turns from 0 without a gap"
        records += [_TurnRecord(number=lacking, fault=gap) for lacking in range(after, number)]
        line, paths = lines.get(number, {}), clips.get(number, [])
        records.append(_TurnRecord(number=number, metadata=value, line=line, clips=paths))
        after = number + 1
    for key in (key for key, _ in items if not _number(key)):
        number = records[-1].number + 1 if records else 0
        fault = f"found turn number {key!a:.80}, expected a whole number from 0"
        records.append(_TurnRecord(number=number, fault=fault))
    return records


def _speaker(record: _TurnRecord, metadata: dict[str, Any]) -> str:
    """Who speaks, by metadata, file name and list, which have to agree."""
    if record.fault is not None:
        raise BadClipError(Reason.BAD_NUMBER, record.fault)
    if record.metadata is not None and not metadata:
        detail = f"found {record.metadata!a:.80} in {METADATA}, expected an object with speaker and text"
        raise BadClipError(Reason.METADATA_DISAGREES, detail)
    match = _CLIP.fullmatch(basename(record.clips[0])) if len(record.clips) == 1 else None
    named = (metadata.get("speaker"), match[2] if match else None, record.line.get("speaker"))
    files = (METADATA, "the file name", "the list")
    speakers = {file: str(name) for file, name in zip(files, named, strict=True) if name is not None}
    words = ", ".join(f"{speaker!a:.40} by {file}" for file, speaker in speakers.items())
    if len(set(speakers.values())) > 1:
        raise BadClipError(Reason.METADATA_DISAGREES, f"found speaker {words}; expected one and the same")
    speaker = next(iter(speakers.values()), "")
    if speaker not in GENDERS:
        raise BadClipError(Reason.BAD_SPEAKER, f"found speaker {words or 'none'}; expected 0 or 1")
    return speaker


def _clip(record: _TurnRecord, unit: Unit[str]) -> str:
    """The one clip of a turn."""
    number, names = unit.payload, ", ".join(map(basename, record.clips))
    if len(record.clips) == 1:
        return record.clips[0]
    if any(_number(basename(path)) == number for path in unit.files):
        detail = f"found a symlink in place of {number}/, expected a folder"
        raise BadClipError(Reason.REFUSED_PATH, detail)
    detail = f"found {names or 'none'}, expected one clip {number}/{record.number}_<speaker>_d{number}.wav"
    raise BadClipError(Reason.BAD_NUMBER if record.clips else Reason.MISSING, detail)


def _items(value: Any) -> list[tuple[str, Any]] | None:
    """The pairs of a JSON object, repeated keys among them; None where it is another value."""
    is_pairs = isinstance(value, list) and value and isinstance(value[0], tuple)
    return list(value.items()) if isinstance(value, dict) else value if is_pairs else None


def _number(text: str) -> str:
    """A number of a dialogue or turn in one spelling, "" where it is none."""
    return str(int(text)) if re.fullmatch("[0-9]{1,9}", text) else ""


class DailyTalkUSDM(SpeechBuilder):
    """DailyTalk as training rows."""

    ABOUT = ABOUT
    READER = DailyTalkReader
    BUILDER_CONFIG_CLASS = DailyTalkConfig
    BUILDER_CONFIGS = [DailyTalkConfig(name=name) for name in ("usdm", *DIALOGUE_CONFIGS)]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "usdm"
