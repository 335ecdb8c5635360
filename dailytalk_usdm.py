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

This file is longer than 300 lines: four descriptions of a turn are joined, and each can be faulty.
"""

import json
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flag
from speechrows.card.prose import About
from speechrows.corpora import traits
from speechrows.corpora.folder import Corpus
from speechrows.corpora.folder import Entry
from speechrows.corpora.folder import basename
from speechrows.corpora.folder import folder_of
from speechrows.corpora.reader import Unit
from speechrows.corpora.turns import is_text
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.rows.curriculum import DIALOGUE_CONFIGS
from speechrows.rows.tasks import CORRESPOND
from speechrows.rows.tasks import NUM_UNITS
from speechrows.types import AudioRef
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Role
from speechrows.types import Task
from speechrows.types import Turn
from speechrows.types import UnreadableFile

CONFIGS = ("usdm", *DIALOGUE_CONFIGS)
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

_CLIP = re.compile(
    r"(\d{1,9})_([^_/]+)_d(\d{1,9})\.(?:wav|flac|opus|ogg|mp3|aiff?|au|caf|rf64|w64)", re.IGNORECASE
)
_BASENAME = re.compile(r"(\d{1,9})_([^_/]+)_d(\d{1,9})")  # of a list's line: turn, speaker, dialogue
_MOST_MISSING = 100  # turns in a row that a dialogue may lack; what is beyond is no turn of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What a line of a phone list says of a clip."""

    speaker: str
    text: str
    emotion: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What metadata.json and the lists say, by dialogue; `faults` are what of them can not be read."""

    turns: dict[str, list[tuple[str, Any]]]  # of metadata.json: each turn's number, and what it says of it
    lines: dict[str, dict[int, Line]]
    splits: dict[str, str]
    faults: list[UnreadableFile]


def list_units(corpus: Corpus, entries: list[Entry], *, as_listed: bool = False) -> tuple[str, list[Unit]]:
    """What was found in the corpus' listing, in words, and its dialogues in order.

    Raises:
        UsageError: metadata.json is broken, or there are no lists where they are asked for.
    """
    data, clips = _dialogue_files(entries)
    described = _described(entry.path for entry in entries)
    told, lists = _read_told(corpus, described), [path for path, what in described.items() if what in LISTS]
    if as_listed and not lists:
        raise UsageError(
            f"--as-listed: found no phone list; expected {' and '.join(sum(LISTS.values(), ()))}"
        )
    numbers = sorted({*clips, *told.turns, *told.lines}, key=int)
    unlisted = [number for number in numbers if lists and number not in told.splits]
    units = [
        Unit(file=file, name="", files=tuple(described), num_bytes=0)
        for file in dict.fromkeys(fault.file for fault in told.faults)
    ]
    for number in numbers:
        if as_listed and number in unlisted:
            continue
        mine = clips.get(number, [])
        file, *files = (*described, *(entry.path for entry in mine))
        weight, split = sum(entry.num_bytes for entry in mine), told.splits.get(number, "train")
        units.append(Unit(file=file, name=number, files=tuple(files), num_bytes=weight, splits=(split,)))
    found = (
        f"{len(clips)} dialogues in {data or 'no folder'}, {len(told.turns)} in {METADATA}, "
        f"{len(told.splits)} in {' and '.join(lists) or 'no phone list'}"
        + (f"; {len(unlisted)} in no list are {'left out' if as_listed else 'train'}" if unlisted else "")
    )
    return found, units


def _dialogue_files(entries: Iterable[Entry]) -> tuple[str, dict[str, list[Entry]]]:
    """The folder of the dialogues' folders, and the files of each dialogue by its number.

    Raises:
        UsageError: there are several such folders.
    """
    by_folder: dict[str, list[Entry]] = {}
    for entry in entries:
        folder = entry.path if entry.refused and _number(basename(entry.path)) else folder_of(entry.path)
        if _number(basename(folder)):
            by_folder.setdefault(folder, []).append(entry)
    data = _data_folder({folder_of(folder) for folder in by_folder})
    files: dict[str, list[Entry]] = {}
    for folder, mine in by_folder.items():
        if folder_of(folder) == data:
            files.setdefault(_number(basename(folder)), []).extend(mine)
    return data, files


def _data_folder(folders: set[str]) -> str:
    """The folder of the dialogues' folders: `data` where there are copies of it.

    Raises:
        UsageError: there are several, and not one is called data.
    """
    named = [folder for folder in folders if basename(folder) == "data"]
    if len(folders) > 1 and len(named) != 1:
        raise UsageError(
            f"found dialogues in {', '.join(sorted(folders))}; expected one folder of them, data/"
        )
    return "".join(named or folders)


def _described(paths: Iterable[str]) -> dict[str, str]:
    """The files that describe clips, the topmost of each name, and what each is: a split's, or metadata."""
    names = sorted(paths, key=lambda path: (path.count("/"), path))
    found: dict[str, str] = {}
    for what, known in {METADATA: (METADATA,), **LISTS}.items():
        there = [path for path in names if basename(path) in known]
        top = [path for path in there if path.count("/") == there[0].count("/")]
        found |= dict.fromkeys(sorted(top, key=lambda path: known.index(basename(path)))[:1], what)
    return found


def _read_told(corpus: Corpus, described: Mapping[str, str]) -> Told:
    told = Told(turns={}, lines={}, splits={}, faults=[])
    for path, what in described.items():
        try:
            # Bytes that are no UTF-8 become lone surrogates: they cost their own turn, not the file.
            text = corpus.read(corpus.resolve("", path)).decode("utf-8-sig", "surrogateescape")
            if what == METADATA:
                _read_metadata(path, text, told)
            else:
                _read_list(path, what, text, told)
        except (ValueError, RecursionError, OSError, BadClipError) as error:
            detail = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"{path}: found {type(error).__name__}: {detail}; expected what DailyTalk publishes. "
                "Download it again, or remove it"
            ) from error
    return told


def _read_metadata(path: str, text: str, told: Told) -> None:
    """Raises ValueError: it is no JSON object."""
    found = _items(json.loads(text, object_pairs_hook=_object))
    if found is None:
        raise ValueError("JSON of another kind than an object of dialogues")
    for key, value in found:
        number, turns = _number(key), _items(value)
        if not number or turns is None:
            what = f"dialogue {key!a:.80}" if not number else f"dialogue {key}, a {type(value).__name__}"
            detail = f"found {what}; expected an object of turns under the dialogue's number"
        elif number in told.turns:
            detail = f"found dialogue {number} again; expected it once. The first is read"
        else:
            told.turns[number] = turns
            continue
        told.faults.append(UnreadableFile(file=path, detail=detail))


def _read_list(path: str, split: str, text: str, told: Told) -> None:
    """Raises ValueError: no line of it is one, so that it can not say what is test."""
    bad: list[str] = []
    num_good = 0
    for at, line in enumerate(text.split("\n"), 1):
        name, *others = line.strip().split("|")
        match = _BASENAME.fullmatch(name)
        if match and len(others) == 4:
            number, num_good = str(int(match[3])), num_good + 1
            told.splits.setdefault(number, split)  # of a dialogue in both, the train list's, as USDM does
            speaker, _, said, emotion = others
            mine = told.lines.setdefault(number, {})
            mine.setdefault(int(match[1]), Line(speaker=speaker, text=said, emotion=emotion))
        elif line.strip():
            bad.append(f"line {at}, {line!a:.120}")
    if bad:
        detail = f"found {len(bad)} bad lines, first {bad[0]}; expected name|speaker|phones|text|emotion"
        if not num_good:
            raise ValueError(detail.partition(";")[0])
        told.faults.append(UnreadableFile(file=path, detail=detail))


def read_dialogues(
    corpus: Corpus, units: Iterable[Unit], *, as_listed: bool = False, swap_roles: bool = False
) -> Iterator[Dialogue | UnreadableFile]:
    """The dialogues of some units, in order."""
    told: Told | None = None
    for unit in units:
        if told is None:  # once a shard: metadata.json is one file for all dialogues
            told = _read_told(corpus, _described([unit.file, *unit.files]))
        if not unit.name:
            yield from (fault for fault in told.faults if fault.file == unit.file)
            continue
        turns = [_turn(corpus, found, unit, as_listed=as_listed) for found in _found(unit, told)]
        first = next((turn.speaker for turn in turns if turn.speaker in GENDERS), None)
        domains = (
            value.get("topic") for _, value in told.turns.get(unit.name, []) if isinstance(value, dict)
        )
        yield Dialogue(
            conversation_id=f"dailytalk/{unit.name}",
            split=unit.splits[0],
            domain=next(filter(is_text, domains), None),
            turns=tuple(
                replace(turn, role=_role(turn.speaker, first, swap_roles=swap_roles)) for turn in turns
            ),
            twin_key=None if told.splits else unit.name,
            source=unit.file,
        )


def _role(speaker: str, first: str | None, *, swap_roles: bool) -> Role | None:
    if speaker not in GENDERS:
        return None
    return "user" if (speaker == first) != swap_roles else "assistant"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A turn as it was found, unchecked. `fault` says why it is none."""

    number: int
    told: Any = None  # by metadata.json
    clips: Sequence[str] = ()
    line: Line | None = None
    fault: str | None = None


def _found(unit: Unit, told: Told) -> list[Found]:
    """The turns of a dialogue in order: of metadata, files and lists together."""
    clips: dict[int, list[str]] = {}
    for path in (unit.file, *unit.files):
        match = _CLIP.fullmatch(basename(path))
        if match and _number(match[3]) == _number(basename(folder_of(path))) == unit.name:
            clips.setdefault(int(match[1]), []).append(path)
    lines, numbered = told.lines.get(unit.name, {}), list[tuple[int, Any]]()
    bad_keys: list[str] = []
    for key, value in told.turns.get(unit.name, []):
        if number := _number(key):
            numbered.append((int(number), value))
        else:
            bad_keys.append(key)
    numbered += [(number, None) for number in {*clips, *lines} - {number for number, _ in numbered}]
    found = [
        Found(number=number, told=value, clips=clips.get(number, ()), line=lines.get(number))
        for number, value in sorted(numbered, key=lambda one: one[0])
    ]
    turns = _with_gaps(found)
    after = turns[-1].number + 1 if turns else 0
    return turns + [
        Found(number=after + i, fault=f"found turn number {key!a:.80}, expected a whole number from 0")
        for i, key in enumerate(bad_keys)
    ]


def _with_gaps(found: Sequence[Found]) -> list[Found]:
    """Turns, and a fault for each that lacks: two turns around a gap do not follow one another."""
    turns: list[Found] = []
    after = 0
    for one in found:
        if one.number - after > _MOST_MISSING:
            turns.append(replace(one, fault=f"found turn number {one.number}, expected {after}"))
            continue
        lacks = f"found turn {one.number}, and nothing of this one; expected turns from 0 without a gap"
        turns += [Found(number=number, fault=lacks) for number in range(after, one.number)]
        turns.append(one)
        after = one.number + 1
    return turns


def _turn(corpus: Corpus, found: Found, unit: Unit, *, as_listed: bool) -> Turn:
    told: dict[str, Any] = found.told if isinstance(found.told, dict) else {}
    emotion = told.get("emotion") or (found.line.emotion if found.line else None)
    speaker, text = "", ""
    path: str | None = None
    fault: Fault | None = None
    try:
        if found.fault is not None:
            raise BadClipError(Reason.BAD_NUMBER, found.fault)
        speaker = _speaker(found, told)
        path = _clip(corpus, found, unit)
        text = _text(corpus, found, told, (unit.file, *unit.files), as_listed=as_listed)
    except BadClipError as error:
        fault = Fault(reason=error.reason, detail=error.detail, file=unit.file)
    return Turn(
        number=found.number,
        speaker=speaker,
        role=None,
        text=text,
        audio=AudioRef(path=path) if path else None,
        traits=traits.normalise(emotion=emotion if is_text(emotion) else None, gender=GENDERS.get(speaker)),
        fault=fault,
    )


def _speaker(found: Found, told: Mapping[str, Any]) -> str:
    """Who speaks, by metadata, file name and list, which have to agree."""
    if found.told is not None and not told:
        detail = f"found {found.told!a:.80} in {METADATA}, expected an object with speaker and text"
        raise BadClipError(Reason.METADATA_DISAGREES, detail)
    match = _CLIP.fullmatch(basename(found.clips[0])) if len(found.clips) == 1 else None
    named = {
        METADATA: told.get("speaker"),
        "the file name": match[2] if match else None,
        "the list": found.line.speaker if found.line else None,
    }
    said = {where: str(speaker) for where, speaker in named.items() if speaker is not None}
    words = ", ".join(f"{speaker!a:.40} by {where}" for where, speaker in said.items())
    if len(set(said.values())) > 1:
        raise BadClipError(Reason.METADATA_DISAGREES, f"found speaker {words}; expected one and the same")
    speaker = next(iter(said.values()), "")
    if speaker not in GENDERS:
        raise BadClipError(Reason.BAD_SPEAKER, f"found speaker {words or 'none'}; expected 0 or 1")
    return speaker


def _clip(corpus: Corpus, found: Found, unit: Unit) -> str:
    if len(found.clips) == 1:
        return corpus.resolve("", found.clips[0])
    if any(_number(basename(path)) == unit.name for path in (unit.file, *unit.files)):
        detail = f"found a symlink in place of {unit.name}/, expected a folder"
        raise BadClipError(Reason.REFUSED_PATH, detail)
    names = ", ".join(map(basename, found.clips)) or "none"
    raise BadClipError(
        Reason.BAD_NUMBER if found.clips else Reason.MISSING,
        f"found {names}, expected one clip {unit.name}/{found.number}_<speaker>_d{unit.name}.wav",
    )


def _text(
    corpus: Corpus, found: Found, told: Mapping[str, Any], files: Sequence[str], *, as_listed: bool
) -> str:
    """What is said, by metadata, else by the clip's .txt, else by its list; or by that alone."""
    if as_listed:
        if found.line is None:
            raise BadClipError(Reason.MISSING, "found no line in the phone lists, expected one a turn")
        return _checked(found.line.text)
    text, beside = told.get("text"), f"{found.clips[0].rpartition('.')[0]}.txt"
    if text in (None, "") and beside in files:
        try:
            data = corpus.read(corpus.resolve("", beside))
        except OSError as error:
            raise BadClipError(Reason.UNREADABLE, f"{beside}: {error.strerror}") from error
        text = data.decode("utf-8-sig", "surrogateescape").strip()
    if text in (None, "") and found.line is not None:
        text = found.line.text
    return _checked(text or "")


def _checked(text: Any) -> str:
    if not is_text(text):
        raise BadClipError(Reason.BAD_TEXT, f"found text {text!a:.80}, expected a string of UTF-8")
    return text


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """A JSON object: a dictionary, or its pairs where a key is repeated."""
    made = dict(pairs)
    return made if len(made) == len(pairs) else pairs


def _items(value: Any) -> list[tuple[str, Any]] | None:
    """The pairs of a JSON object, repeated keys among them; None where it is another value."""
    if isinstance(value, dict):
        return list(value.items())
    is_pairs = isinstance(value, list) and value and all(isinstance(pair, tuple) for pair in value)
    return value if is_pairs else None


def _number(text: str) -> str:
    """A number of a dialogue or turn in one spelling, "" where it is none."""
    return str(int(text)) if re.fullmatch("[0-9]{1,9}", text) else ""


@dataclass
class DailyTalkConfig(SpeechConfig):
    """The flags of this corpus."""

    EXTRA_TOKENS = (CORRESPOND, *(f"<|unit{i}|>" for i in range(NUM_UNITS)))

    as_listed: bool = flag(False, "only the dialogues of the phone lists, with their cleaned texts, as USDM")
    supervise_eos: bool = flag(True, "teach usdm rows to end; as published, they are not")
    swap_roles: bool = flag(False, "the first speaker is the assistant")


class DailyTalkUSDM(SpeechBuilder):
    """DailyTalk as training rows."""

    ABOUT = ABOUT
    BUILDER_CONFIG_CLASS = DailyTalkConfig
    BUILDER_CONFIGS = [DailyTalkConfig(name=name) for name in CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "usdm"

    list_units = staticmethod(list_units)
    read_dialogues = staticmethod(read_dialogues)

    def units(self, task: Task, corpus: Corpus, listing: list[Entry]) -> tuple[str, list[Unit]]:  # noqa: ARG002
        """The units of this config: all of the corpus, or what the phone lists name."""
        assert isinstance(self.config, DailyTalkConfig)
        return list_units(corpus, listing, as_listed=self.config.as_listed)
