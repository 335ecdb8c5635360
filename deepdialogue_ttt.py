"""DeepDialogue: 40 150 synthetic multi-turn dialogues, 480 hours, 41 domains, 20 emotions.

Two renderings of the same texts exist, by XTTS-v2 and by Orpheus: WAV, PCM 16, mono, 24 kHz, one
file a turn. Two language models talk to each other (LLM1 and LLM2): they are peers, not user
and assistant. Here the first speaker is the user; `--swap-roles` gives the other view.

Three shapes are read, found by looking. Dialogue JSONs win; the table is read only where there
are none:
  published   data/<config>/<domain>_<n>_<T>.json with conversation[], and beside it a folder of
              that name with segments/001_LLM1_happy.wav (numbered from 1) and metadata.tsv
  documented  <id>.json with turns[] (turn_id from 0, audio_file), segments/turn_0.wav
  table       data/*.parquet, one row a turn, with segment_audio_path relative to the table

Of the three texts that metadata.tsv gives a segment (original, substituted, cleaned), the
transcript is the original, which is the JSON's. Emotion is the one that was acted, of the file
name, where there is one. Dialogues have 3 to 10 turns, so that none passes about 4 000 tokens:
the curriculum's four stages hold the same conversations (`speechrows stats` says so).

This file is longer than 300 lines: it reads three shapes, with every fault that each can have.
"""

import io
import itertools
import json
import posixpath
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flag
from speechrows.card.prose import About
from speechrows.corpora import traits
from speechrows.corpora.folder import Corpus
from speechrows.corpora.folder import Entry
from speechrows.corpora.folder import basename
from speechrows.corpora.folder import folder_of
from speechrows.corpora.turns import is_text
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.rows.curriculum import DIALOGUE_CONFIGS
from speechrows.types import AudioRef
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Role
from speechrows.types import Traits
from speechrows.types import Turn
from speechrows.types import Unit
from speechrows.types import UnreadableFile

SOURCES = ("SALT-Research/DeepDialogue-xtts", "SALT-Research/DeepDialogue-orpheus")
CONFIGS = DIALOGUE_CONFIGS
SPEAKERS = ("LLM1", "LLM2", "A", "B")

ABOUT = About(
    title="DeepDialogue",
    summary="Multi-turn emotional spoken dialogues, 480 hours of synthetic English speech.",
    licence="cc-by-nc-4.0",
    licence_note=(
        "The corpus' card says CC BY-NC 4.0; the loading script it was published with says "
        "CC BY-NC-SA 4.0. Both forbid commercial use."
    ),
    homepage="https://huggingface.co/datasets/SALT-Research/DeepDialogue-xtts",
    citation=(
        "@article{koudounas2025deepdialogue,\n"
        "  title={DeepDialogue: A Multi-Turn Emotionally-Rich Spoken Dialogue Dataset},\n"
        "  author={Koudounas, Alkis and La Quatra, Moreno and Baralis, Elena},\n"
        "  journal={arXiv preprint arXiv:2505.19978},\n"
        "  year={2025}\n}"
    ),
    languages=("en",),
)

_AUDIO = r"\.(?:wav|flac|opus|ogg|mp3|aiff?|au|caf|rf64|w64)$"  # a .txt beside a clip is no clip
_PUBLISHED_NAME = re.compile(r"(\d+)_([^_]+)_([^.]*)" + _AUDIO, re.IGNORECASE)  # from 1, speaker, emotion
_DOCUMENTED_NAME = re.compile(r"turn_(\d+)" + _AUDIO, re.IGNORECASE)  # number from 0
_NO_CLIP = (None, "", "null")  # as a table's path
_TABLE_COLUMNS = ("conversation_id", "turn_index", "speaker", "text", "segment_audio_path")


def list_units(corpus: Corpus, entries: list[Entry]) -> tuple[str, list[Unit]]:
    """What was found in the corpus' listing, in words, and its dialogues in order."""
    beside: dict[str, list[Entry]] = {}
    for entry in entries:
        folder, is_segment, _ = f"{entry.path}/".rpartition("/segments/")
        if not entry.path.endswith("_full.wav"):
            beside.setdefault(folder if is_segment else folder_of(entry.path), []).append(entry)
    units = [
        _unit(entry.path, "", [entry, *beside.get(entry.path[:-5], [])])
        for entry in entries
        if entry.path.endswith(".json") and "/" in entry.path and "/segments/" not in entry.path
    ]
    tables = [entry.path for entry in entries if entry.path.endswith(".parquet")]
    if units:
        note = " (the table beside them is not read)" if tables else ""
        return f"{len(units)} dialogue JSONs{note}", units
    listed = {entry.path: entry for entry in entries}  # what is not there is not downloaded
    for folder, group in itertools.groupby(tables, folder_of):
        parts = list(group)
        turns = _read_tables(corpus, parts)
        clips = turns.table["segment_audio_path"].to_pylist()
        for stem, rows in sorted(turns.rows.items()):
            paths = [posixpath.join(folder, str(clips[row])) for row in rows]
            beside_it = [listed[path] for path in (*parts, *paths) if path in listed]
            units.append(_unit(parts[0], stem, beside_it))
    found = f"no <config>/<dialogue>.json; {len(units)} conversations in {len(tables)} tables"
    return found, units


def _unit(file: str, name: str, entries: Sequence[Entry]) -> Unit:
    weight = sum(entry.num_bytes for entry in entries if not entry.path.endswith(".parquet"))
    files = tuple(entry.path for entry in entries if entry.path != file)
    return Unit(file=file, name=name, files=files, num_bytes=weight)


def read_dialogues(
    corpus: Corpus, units: Iterable[Unit], *, swap_roles: bool = False
) -> Iterator[Dialogue | UnreadableFile]:
    """The dialogues of some units, in order, whatever their shape."""
    held_file, held = "", None
    for unit in units:
        if not unit.name:
            yield from _read_json(corpus, unit, swap_roles)
            continue
        if unit.file != held_file:
            parts = [unit.file, *(path for path in unit.files if path.endswith(".parquet"))]
            held_file, held = unit.file, _read_tables(corpus, parts)
        assert held is not None
        turns, folder = held.of(unit.name), folder_of(unit.file)
        found = _Found(file=unit.file, folder=folder, turns=turns, domain=turns[0]["domain"], first=1)
        yield _dialogue(corpus, found, folder, unit.name, swap_roles)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A dialogue of any of the three shapes; `turns` are as in the documented JSON, unchecked."""

    file: str  # that describes it
    folder: str  # that its clips' names are relative to
    turns: Sequence[dict[str, Any]]
    domain: Any
    first: int = 0  # the number of its first turn
    segments: Mapping[int, Sequence[str]] = field(default_factory=dict)  # paths by turn number, from 0
    lines: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of metadata.tsv by clip name
    is_refused: bool = False  # its segments/ is a symlink, which is not followed


@dataclass(frozen=True)
class _Turns:
    """The turns of a folder's tables, as Arrow holds them: as objects the real table weighs 600 MB."""

    table: pa.Table
    rows: Mapping[str, Sequence[int]]  # of the table, by conversation

    def of(self, stem: str) -> list[dict[str, Any]]:
        """The turns of a conversation, as in the documented JSON."""
        return [
            {
                "turn_id": row["turn_index"],
                "speaker": row["speaker"],
                "text": row["text"],
                "emotion": row.get("audio_ravdess_emotion") or row.get("emotion"),
                "audio_file": None if row["segment_audio_path"] in _NO_CLIP else row["segment_audio_path"],
                "domain": row.get("domain"),
            }
            for row in self.table.take(self.rows[stem]).to_pylist()
        ]


def _read_tables(corpus: Corpus, tables: Sequence[str]) -> _Turns:
    """A folder's tables as one; a conversation may straddle them, and lacks an id only by mistake."""
    parts: list[pa.Table] = []
    rows: dict[str, list[int]] = {}
    at = 0
    for table in tables:
        parts.append(_read_table(corpus, table))
        told, clips = (parts[-1][name].to_pylist() for name in ("conversation_id", "segment_audio_path"))
        for i, (conversation, clip) in enumerate(zip(told, clips, strict=True)):
            rows.setdefault(_stem(conversation, clip, f"{basename(table)[:-8]}:{i}"), []).append(at + i)
        at += len(parts[-1])
    return _Turns(pa.concat_tables(parts, promote_options="permissive"), rows)


def _stem(conversation: Any, clip: Any, otherwise: str) -> str:
    """`<config>/<name>` of a table's conversation: as it says, by its clip's folder, or `otherwise`."""
    folder = str(clip).rpartition("/segments/")[0]
    if "/" not in str(conversation) and "/" in folder:
        return "/".join(folder.split("/")[-2:])  # a bare stem repeats across configs
    return otherwise if conversation in (None, "") else str(conversation)


def _read_table(corpus: Corpus, table: str) -> pa.Table:
    try:
        found = pq.read_table(io.BytesIO(corpus.read(table)))
    except ValueError as error:
        raise UsageError(f"{table}: found {error}; expected parquet. Download it again") from error
    missing = [column for column in _TABLE_COLUMNS if column not in found.column_names]
    if missing:
        raise UsageError(
            f"{table}: has the columns {', '.join(found.column_names)}; expected "
            f"{', '.join(missing)} too, as in the corpus' one-row-per-turn table"
        )
    return found


def _read_json(corpus: Corpus, unit: Unit, swap_roles: bool) -> Iterator[Dialogue | UnreadableFile]:
    folder, lines = unit.file[:-5], dict[str, dict[str, str]]()
    try:
        # Bytes that are no UTF-8 become lone surrogates: they cost their own turn, not the file.
        told = json.loads(_read_text(corpus, unit.file, "surrogateescape"))
        turns = _turns(told)
    except (ValueError, RecursionError, OSError, BadClipError) as error:
        detail = f"found {_say(error)}; expected the JSON of a dialogue"
        yield UnreadableFile(file=unit.file, detail=detail)
        return
    try:
        if f"{folder}/metadata.tsv" in unit.files:
            # Not by csv: some writers quote, some do not, and quotes are not compared.
            heads, *rest = _read_text(corpus, f"{folder}/metadata.tsv", "strict").splitlines()
            for values in rest:
                line = dict(zip(heads.split("\t"), values.split("\t"), strict=False))
                lines[basename(line.get("filename") or line.get("audio_path") or "")] = line
    except (ValueError, OSError, BadClipError) as error:
        detail = f"found {_say(error)}; expected tab-separated lines of UTF-8"
        yield UnreadableFile(file=f"{folder}/metadata.tsv", detail=detail)
    segments: dict[int, list[str]] = {}
    for path in unit.files:
        if match := _PUBLISHED_NAME.match(basename(path)):
            segments.setdefault(int(match[1]) - 1, []).append(path)
        elif match := _DOCUMENTED_NAME.match(basename(path)):
            segments.setdefault(int(match[1]), []).append(path)
    found = _Found(
        file=unit.file, folder=folder, turns=turns, domain=told.get("domain"), segments=segments,
        lines=lines, is_refused=f"{folder}/segments" in unit.files,
    )  # fmt: skip
    *above, config, name = folder.split("/")
    yield _dialogue(corpus, found, "/".join(above), f"{config}/{name}", swap_roles)


def _read_text(corpus: Corpus, path: str, errors: str) -> str:
    return corpus.read(corpus.resolve("", path)).decode("utf-8-sig", errors)


def _turns(told: Any) -> list[dict[str, Any]]:
    """The turns of a dialogue JSON. Raises ValueError where there are none."""
    turns = (told.get("conversation") or told.get("turns")) if isinstance(told, dict) else None
    if not isinstance(turns, list) or not turns:
        what = f"the keys {', '.join(map(ascii, told))}" if isinstance(told, dict) else type(told).__name__
        raise ValueError(f"{what:.200} without a list of turns under 'conversation' or 'turns'")
    turns = [turn if isinstance(turn, dict) else {"text": turn} for turn in turns]
    return [{"turn_id": i, **turn} for i, turn in enumerate(turns)]


def _say(error: Exception) -> str:
    """An error in words: of the operating system's without the path, which is this machine's."""
    return f"{type(error).__name__}: {error.strerror if isinstance(error, OSError) else error}"


def _dialogue(corpus: Corpus, found: _Found, above: str, stem: str, swap_roles: bool) -> Dialogue:
    """Roles by who speaks first; `stem` is `<config>/<name>`, which twin renderings share."""
    told = [_number(found, turn) for turn in found.turns]
    # What is no number takes a free one, so that its fault costs no other turn where turns count alone.
    free = (number for number in itertools.count() if number not in told)
    numbers = [next(free) if number is None else number for number in told]
    turns = sorted(zip(numbers, found.turns, strict=True), key=lambda pair: pair[0])
    speakers = [turn.get("speaker") for _, turn in turns]
    cast = list(dict.fromkeys(speaker for speaker in speakers if speaker in SPEAKERS))[:2]
    variants = [part for part in above.split("/") if part not in ("", "data")]
    return Dialogue(
        conversation_id=f"{variants[-1] if variants else corpus.name}/{stem}",
        split="train",
        domain=found.domain if is_text(found.domain) else None,
        turns=tuple(_turn(corpus, found, number, turn, cast, swap_roles) for number, turn in turns),
        twin_key=stem,
        source=found.file,
    )


def _number(found: _Found, turn: dict[str, Any]) -> int | None:
    """The number of a turn, from 0; None where what it has is none."""
    number = turn["turn_id"]
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return number - found.first if is_number and found.first <= number < 1 << 31 else None


def _turn(
    corpus: Corpus, found: _Found, number: int, turn: dict[str, Any], cast: Sequence[str], swap_roles: bool
) -> Turn:
    speaker, text, emotion = turn.get("speaker"), turn.get("text"), turn.get("emotion")
    path: str | None = None
    role: Role | None = None
    fault: Fault | None = None
    if speaker in cast:
        role = "user" if (speaker == cast[0]) != swap_roles else "assistant"
    try:
        path = _clip(corpus, found, turn)
        if role is None:
            known = cast if len(cast) == 2 else SPEAKERS
            raise BadClipError(
                Reason.BAD_SPEAKER, f"found speaker {speaker!r:.80}, expected one of {', '.join(known)}"
            )
        if not is_text(text):
            raise BadClipError(Reason.BAD_TEXT, f"found text {text!a:.80}, expected a string of UTF-8")
        if match := _PUBLISHED_NAME.match(basename(path)):
            emotion = match[3]
        _compare(basename(path), found, str(speaker), text)
    except BadClipError as error:
        fault = Fault(reason=error.reason, detail=error.detail, file=found.file)
    return Turn(
        number=number,
        speaker=str(speaker),
        role=role,
        text=text if isinstance(text, str) else "",
        audio=AudioRef(path=path) if path else None,
        traits=Traits(emotion=traits.emotion(emotion) if isinstance(emotion, str) else None),
        fault=fault,
    )


def _clip(corpus: Corpus, found: _Found, turn: dict[str, Any]) -> str:
    """The path of a turn's clip: the one it names, else the one segment file of its number."""
    number, name = _number(found, turn), turn.get("audio_file")
    if number is None:
        detail = f"found turn number {turn['turn_id']!r:.80}, expected a whole number from {found.first}"
        raise BadClipError(Reason.BAD_NUMBER, detail)
    if isinstance(name, str):
        return corpus.resolve(found.folder, name)
    paths = found.segments.get(number, [])
    named = paths if len(paths) == 1 else [path for path in paths if basename(path) in found.lines]
    if len(named) == 1 and name is None:
        return corpus.resolve("", named[0])
    told = ", ".join(map(basename, paths)) or "none" if name is None else f"the name {name!r:.80}"
    if found.is_refused:
        raise BadClipError(Reason.REFUSED_PATH, "found a symlink in place of segments/, expected a folder")
    raise BadClipError(
        Reason.BAD_NUMBER if paths else Reason.MISSING,
        f"found {told}, expected one clip for turn {turn['turn_id']}",
    )


def _compare(name: str, found: _Found, speaker: str, text: str) -> None:
    """Refuse a clip whose name, or whose line in metadata.tsv, tells of another speaker or text."""
    match, line = _PUBLISHED_NAME.match(name), found.lines.get(name, {})
    for what, ours, theirs in [
        ("speaker", speaker, match[2] if match else None),
        ("speaker", speaker, line.get("speaker")),
        ("text", text, line.get("original_text") or line.get("text")),
    ]:
        if _words(ours) and _words(theirs or "") not in ("", _words(ours)):
            detail = f"{name}: found {what} {ours!r:.80}, expected its clip's, which is {theirs!r:.80}"
            raise BadClipError(Reason.METADATA_DISAGREES, detail)


def _words(text: str) -> str:
    """A text without what quoting and spacing change."""
    return "".join(filter(str.isalnum, text.casefold()))


@dataclass
class DeepDialogueConfig(SpeechConfig):
    """The flags of this corpus."""

    source: str | None = flag(SOURCES[0], f"the Hub repository: {' or '.join(SOURCES)}")
    swap_roles: bool = flag(False, "the first speaker is the assistant")


class DeepDialogueTTT(SpeechBuilder):
    """DeepDialogue as training rows."""

    ABOUT = ABOUT
    BUILDER_CONFIG_CLASS = DeepDialogueConfig
    BUILDER_CONFIGS = [DeepDialogueConfig(name=name) for name in CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "ttt"

    list_units = staticmethod(list_units)
    read_dialogues = staticmethod(read_dialogues)
