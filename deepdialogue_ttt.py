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
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from speechrows import traits
from speechrows.builder import About
from speechrows.builder import SpeechBuilder
from speechrows.builder import SpeechConfig
from speechrows.builder import flag
from speechrows.corpus import Corpus
from speechrows.corpus import Entry
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
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
CONFIGS = ("ttt", "stage_1", "stage_2", "stage_3", "stage_4", "transcription", "response")
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

_PUBLISHED_NAME = re.compile(r"(\d+)_([^_]+)_([^.]*)\.\w+$")  # number from 1, speaker, acted emotion
_DOCUMENTED_NAME = re.compile(r"turn_(\d+)\.\w+$")  # number from 0
_TABLE_COLUMNS = ("conversation_id", "turn_index", "speaker", "text", "segment_audio_path")


def list_units(corpus: Corpus) -> tuple[str, list[Unit]]:
    """What was found, in words, and the dialogues of the corpus in order."""
    entries = corpus.list()
    folders: dict[str, list[Entry]] = {}
    for entry in entries:
        folder, cut, _ = entry.path.partition("/segments")
        if not cut:
            folder = entry.path.rpartition("/")[0]
        folders.setdefault(folder, []).append(entry)
    units = [
        _unit(entry, folders.get(entry.path.removesuffix(".json"), []))
        for entry in entries
        if entry.path.endswith(".json") and "/" in entry.path
    ]
    tables = [entry.path for entry in entries if entry.path.endswith(".parquet")]
    if units:
        note = " (the table beside them is not read)" if tables else ""
        return f"{len(units)} dialogue JSONs{note}", units
    sizes = {entry.path: entry.num_bytes for entry in entries}
    units = [unit for table in tables for unit in _table_units(corpus, table, sizes)]
    return f"no dialogue JSON; {len(units)} conversations in {len(tables)} tables", units


def _unit(dialogue: Entry, beside: Sequence[Entry]) -> Unit:
    clips = [entry for entry in beside if not entry.path.endswith("_full.wav")]
    return Unit(
        key=dialogue.path,
        files=tuple(entry.path for entry in clips),
        num_bytes=dialogue.num_bytes + sum(entry.num_bytes for entry in clips),
    )


def _table_units(corpus: Corpus, table: str, sizes: dict[str, int]) -> Iterator[Unit]:
    files: dict[str, list[str]] = {}
    for row in _read_table(corpus, table):
        name = row["segment_audio_path"] or ""
        path = f"{_folder(table)}{name}"
        files.setdefault(row["conversation_id"], []).append(path)
    for conversation, paths in sorted(files.items()):
        num_bytes = sum(sizes.get(path, 0) for path in paths)
        yield Unit(key=f"{table}#{conversation}", files=tuple(paths), num_bytes=num_bytes)


def _read_table(corpus: Corpus, table: str) -> list[dict[str, Any]]:
    """The rows of a table; a conversation without an id is named after its file and row."""
    found = pq.read_table(io.BytesIO(corpus.read(table)))
    missing = [column for column in _TABLE_COLUMNS if column not in found.column_names]
    if missing:
        raise UsageError(
            f"{table}: has the columns {', '.join(found.column_names)}; expected "
            f"{', '.join(missing)} too, as in the corpus' one-row-per-turn table"
        )
    rows = found.to_pylist()
    for i, row in enumerate(rows):
        row["conversation_id"] = row["conversation_id"] or f"{_name(table)[:-8]}:{i}"
    return rows


def read_dialogues(
    corpus: Corpus, units: Sequence[Unit], *, swap_roles: bool = False
) -> Iterator[Dialogue | UnreadableFile]:
    """The dialogues of some units, in order, whatever their shape."""
    tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for unit in units:
        table, is_table, conversation = unit.key.partition("#")
        if not is_table:
            yield from _read_json(corpus, unit, swap_roles)
            continue
        if table not in tables:
            tables = {table: {}}
            for row in _read_table(corpus, table):
                tables[table].setdefault(row["conversation_id"], []).append(row)
        said = [_from_table(corpus, table, row) for row in tables[table][conversation]]
        domain = tables[table][conversation][0].get("domain")
        yield _dialogue(corpus, table, conversation, domain, said, swap_roles)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    """A turn of any of the three shapes, as found: any value may be of any type."""

    number: Any
    speaker: Any
    text: Any
    emotion: Any
    path: str | None
    fault: Fault | None = None


def _dialogue(
    corpus: Corpus, file: str, stem: str, domain: Any, said: Sequence[_Said], swap_roles: bool
) -> Dialogue:
    """Roles by who speaks first; `stem` is `<config>/<name>`, which twin renderings share."""
    cast = list(dict.fromkeys(one.speaker for one in said if one.speaker in SPEAKERS))[:2]
    turns = [_turn(one, cast, file, swap_roles) for one in said]
    folders = [part for part in file.split("/")[: -1 - stem.count("/")] if part != "data"]
    return Dialogue(
        conversation_id=f"{folders[-1] if folders else corpus.name}/{stem}",
        split="train",
        domain=domain if isinstance(domain, str) else None,
        turns=tuple(sorted(turns, key=lambda turn: turn.number)),
        twin_key=stem,
        source=file,
    )


def _turn(said: _Said, cast: Sequence[str], file: str, swap_roles: bool) -> Turn:
    fault, role = said.fault, None
    if said.speaker in cast:
        is_user = (cast.index(said.speaker) == 0) != swap_roles
        role: Role | None = "user" if is_user else "assistant"
    elif fault is None:
        detail = f"found speaker {said.speaker!r}, expected two of {', '.join(SPEAKERS)}"
        fault = Fault(reason=Reason.BAD_SPEAKER, detail=detail, file=file)
    number, text = said.number, said.text
    if not isinstance(text, str):
        detail = f"found text {text!r:.80}, expected a string"
        fault = fault or Fault(reason=Reason.BAD_TEXT, detail=detail, file=file)
    if not isinstance(number, int) or isinstance(number, bool):
        detail = f"found turn number {number!r}, expected a whole number"
        fault = fault or Fault(reason=Reason.BAD_NUMBER, detail=detail, file=file)
        number = -1
    return Turn(
        number=number,
        speaker=str(said.speaker),
        role=role,
        text=text if isinstance(text, str) else "",
        audio=AudioRef(path=said.path) if said.path else None,
        traits=Traits(emotion=traits.emotion(said.emotion) if isinstance(said.emotion, str) else None),
        fault=fault,
    )


def _from_table(corpus: Corpus, table: str, row: dict[str, Any]) -> _Said:
    name, path, fault = row["segment_audio_path"], None, None
    if name in (None, "", "null"):
        fault = Fault(reason=Reason.MISSING, detail="the table names no clip", file=table)
    else:
        path, fault = _resolve(corpus, _folder(table), name, table)
    return _Said(
        number=row["turn_index"] - 1 if isinstance(row["turn_index"], int) else row["turn_index"],
        speaker=row["speaker"],
        text=row["text"],
        emotion=row.get("audio_ravdess_emotion") or row.get("emotion"),
        path=path,
        fault=fault,
    )


def _resolve(corpus: Corpus, folder: str, name: Any, file: str) -> tuple[str | None, Fault | None]:
    if not isinstance(name, str):
        detail = f"found audio_file {name!r}, expected a path"
        return None, Fault(reason=Reason.MISSING, detail=detail, file=file)
    try:
        return corpus.resolve(folder, name), None
    except BadClipError as error:
        return None, Fault(reason=error.reason, detail=error.detail, file=file)


def _read_json(corpus: Corpus, unit: Unit, swap_roles: bool) -> Iterator[Dialogue | UnreadableFile]:
    try:
        # Bytes that are no UTF-8 become lone surrogates: they cost their own turn, not the file.
        found = json.loads(corpus.read(unit.key).decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError, FileNotFoundError, PermissionError) as error:
        yield UnreadableFile(file=unit.key, detail=f"{type(error).__name__}: {error}")
        return
    turns = found.get("conversation", found.get("turns")) if isinstance(found, dict) else None
    if not isinstance(turns, list) or not turns:
        detail = "expected an object with a list of turns under 'conversation' or 'turns'"
        yield UnreadableFile(file=unit.key, detail=detail)
        return
    try:
        table = _read_metadata(corpus, unit)
    except ValueError as error:
        yield UnreadableFile(file=f"{unit.key[:-5]}/metadata.tsv", detail=str(error))
        table = {}
    segments = _segments(unit)
    said = [_from_json(corpus, unit, i, turn, segments, table) for i, turn in enumerate(turns)]
    stem = "/".join(unit.key[:-5].split("/")[-2:])
    yield _dialogue(corpus, unit.key, stem, found.get("domain"), said, swap_roles)


def _segments(unit: Unit) -> dict[int, list[str]]:
    """Segment files by turn number, from 0."""
    found: dict[int, list[str]] = {}
    for path in unit.files:
        name = _name(path)
        if match := _PUBLISHED_NAME.match(name):
            found.setdefault(int(match[1]) - 1, []).append(path)
        elif match := _DOCUMENTED_NAME.match(name):
            found.setdefault(int(match[1]), []).append(path)
    return found


def _read_metadata(corpus: Corpus, unit: Unit) -> dict[str, dict[str, str]]:
    """The lines of metadata.tsv by clip name; none where there is no such file."""
    file = f"{unit.key[:-5]}/metadata.tsv"
    if file not in unit.files:
        return {}
    lines = csv.DictReader(io.StringIO(corpus.read(file).decode("utf-8")), delimiter="\t")
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        name = line.get("filename") or line.get("audio_path")
        if name:
            found[_name(name)] = line
    return found


def _from_json(
    corpus: Corpus,
    unit: Unit,
    position: int,
    turn: Any,
    segments: dict[int, list[str]],
    table: dict[str, dict[str, str]],
) -> _Said:
    if not isinstance(turn, dict):
        turn = {}
    number, path, fault = turn.get("turn_id", position), None, None
    if turn.get("audio_file") is not None:
        path, fault = _resolve(corpus, unit.key[:-5], turn["audio_file"], unit.key)
    else:
        path, fault = _segment(corpus, unit, segments.get(number, []), number, table)
    emotion = turn.get("emotion")
    if path is not None and fault is None:
        name = _name(path)
        fault = _disagreement(name, turn, table.get(name, {}), unit.key)
        if match := _PUBLISHED_NAME.match(name):
            emotion = match[3]
    return _Said(
        number=number, speaker=turn.get("speaker"), text=turn.get("text"),
        emotion=emotion, path=path, fault=fault,
    )  # fmt: skip


def _segment(
    corpus: Corpus, unit: Unit, paths: Sequence[str], number: Any, table: dict[str, dict[str, str]]
) -> tuple[str | None, Fault | None]:
    """The one segment file of a turn; of several, the one that metadata.tsv names."""
    named = [path for path in paths if _name(path) in table]
    if len(paths) != 1 and len(named) != 1:
        found = ", ".join(_name(path) for path in paths) or "none"
        reason = Reason.BAD_NUMBER if paths else Reason.MISSING
        if f"{unit.key[:-5]}/segments" in unit.files:
            reason, found = Reason.REFUSED_PATH, "a symlink in place of the folder"
        detail = f"found {found} in segments/, expected one clip for turn {number}"
        return None, Fault(reason=reason, detail=detail, file=f"{unit.key[:-5]}/segments")
    return _resolve(corpus, "", paths[0] if len(paths) == 1 else named[0], unit.key)


def _disagreement(name: str, turn: dict[str, Any], line: dict[str, str], file: str) -> Fault | None:
    """A clip whose name or line in metadata.tsv tells of another speaker or another text."""
    match = _PUBLISHED_NAME.match(name)
    pairs = [
        ("speaker", turn.get("speaker"), match[2] if match else None),
        ("speaker", turn.get("speaker"), line.get("speaker")),
        ("text", _words(turn.get("text")), _words(line.get("original_text") or line.get("text"))),
    ]
    for what, ours, theirs in pairs:
        if ours and theirs and ours != theirs:
            detail = f"{name}: the dialogue's {what} is {ours!r:.60}, its clip's is {theirs!r:.60}"
            return Fault(reason=Reason.METADATA_DISAGREES, detail=detail, file=file)
    return None


def _name(path: str) -> str:
    return path.rpartition("/")[2]  # datasets replaces os.path in builder modules, for streaming


def _folder(path: str) -> str:
    return path[: -len(_name(path))]


def _words(text: Any) -> str:
    """A text without what quoting and spacing change."""
    return "".join(filter(str.isalnum, text.casefold())) if isinstance(text, str) else ""


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
