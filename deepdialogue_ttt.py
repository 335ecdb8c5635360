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

import itertools
import posixpath
import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from speechrows.builder import DIALOGUE_CONFIGS
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
from speechrows.builder import TurnTables
from speechrows.builder import Unit
from speechrows.builder import UnreadableFile
from speechrows.builder import basename
from speechrows.builder import flag
from speechrows.builder import folder_of
from speechrows.builder import traits
from speechrows.builder import tsv
from speechrows.builder import turns

SOURCES = ("SALT-Research/DeepDialogue-xtts", "SALT-Research/DeepDialogue-orpheus")
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

_PUBLISHED_NAME = re.compile(r"(\d+)_([^_]+)_([^.]*)" + turns.AUDIO_SUFFIX + "$", re.IGNORECASE)  # from 1
_DOCUMENTED_NAME = re.compile(r"turn_(\d+)" + turns.AUDIO_SUFFIX + "$", re.IGNORECASE)  # from 0
_MOST_TURNS = 100_000  # of a dialogue; they have ten at most
_TABLE_COLUMNS = ("conversation_id", "turn_index", "speaker", "text", "segment_audio_path")


@dataclass
class DeepDialogueConfig(SpeechConfig):
    """The flags of this corpus."""

    source: str | None = flag(SOURCES[0], f"the Hub repository: {' or '.join(SOURCES)}")
    swap_roles: bool = flag(False, "the first speaker is the assistant")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    """A dialogue of any of the three shapes; `turns` are as in the documented JSON, unchecked."""

    file: str  # that describes it
    folder: str  # that its clips' names are relative to
    turns: Sequence[dict[str, Any]]
    domain: Any
    first: int = 0  # the number of its first turn
    segments: Mapping[int, Sequence[str]] = field(default_factory=dict)  # paths by turn number, from 0
    lines: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of metadata.tsv by clip name
    is_refused: bool = False  # its segments/ is a symlink, which is not followed


class DeepDialogueReader:
    """Reads the three shapes. A unit is a dialogue; its payload is its name in a table, None of a JSON."""

    def __init__(self, corpus: Corpus, config: DeepDialogueConfig, task: Task) -> None:  # noqa: ARG002
        self._corpus = corpus
        self._swap_roles = config.swap_roles
        self._tables = TurnTables(
            corpus, _TABLE_COLUMNS, "the corpus' one-row-per-turn table",
            named_by=("conversation_id", "segment_audio_path"), name=_stem,
        )  # fmt: skip

    def units(self, entries: list[Entry]) -> Listing[str | None]:
        """The dialogues of the JSONs, or, where there are none, of the tables."""
        beside: dict[str, list[Entry]] = {}
        for entry in entries:
            folder, is_segment, _ = f"{entry.path}/".rpartition("/segments/")
            if not entry.path.endswith("_full.wav"):
                beside.setdefault(folder if is_segment else folder_of(entry.path), []).append(entry)
        tables = [entry.path for entry in entries if entry.path.endswith(".parquet")]
        units = [
            _unit(None, (), [entry, *beside.get(entry.path[:-5], [])])
            for entry in entries
            if entry.path.endswith(".json") and "/" in entry.path and "/segments/" not in entry.path
        ]
        if units:
            note = " (the table beside them is not read)" if tables else ""
            return Listing(contents=f"{len(units)} dialogue JSONs{note}", units=units)
        units = list(self._units_of_tables(entries, tables))
        contents = f"no <config>/<dialogue>.json; {len(units)} conversations in {len(tables)} tables"
        return Listing(contents=contents, units=units)

    def _units_of_tables(self, entries: Sequence[Entry], tables: Sequence[str]) -> Iterator[Unit[str | None]]:
        listed = {entry.path: entry for entry in entries}  # what is not there is not downloaded
        for folder, group in itertools.groupby(tables, folder_of):
            paths = tuple(group)
            table = self._tables.open(paths)
            clips = table.column("segment_audio_path")
            for stem, rows in sorted(table.rows.items()):
                named = dict.fromkeys(posixpath.join(folder, str(clips[row])) for row in rows)
                yield _unit(stem, paths, [listed[path] for path in named if path in listed])

    def dialogues(self, unit: Unit[str | None]) -> Iterator[Dialogue | UnreadableFile]:
        """The dialogue of a unit."""
        if unit.payload is None:
            yield from self._read_json(unit)
            return
        rows, folder = self._tables.open(unit.opened).turns(unit.payload), folder_of(unit.file)
        record = _Record(
            file=unit.file, folder=folder, turns=[_turn_of_table(row) for row in rows],
            domain=rows[0].get("domain"), first=1,
        )  # fmt: skip
        yield self._dialogue(record, folder, unit.payload)

    def _read_json(self, unit: Unit[str | None]) -> Iterator[Dialogue | UnreadableFile]:
        folder, lines = unit.file[:-5], dict[str, dict[str, str]]()
        try:
            record = turns.parse_json(turns.read_text(self._corpus, unit.file))
            rows = _turns(record)
        except (ValueError, RecursionError, OSError, BadClipError) as error:
            yield turns.unreadable(unit.file, error, "the JSON of a dialogue")
            return
        try:
            if f"{folder}/metadata.tsv" in unit.files:
                table = tsv.read_table(turns.read_text(self._corpus, f"{folder}/metadata.tsv", "strict"))
                lines = {
                    basename(line.get("filename") or line.get("audio_path") or ""): line for line in table
                }
        except (ValueError, OSError, BadClipError) as error:
            yield turns.unreadable(f"{folder}/metadata.tsv", error, "tab-separated lines of UTF-8")
        segments: dict[int, list[str]] = {}
        for path in unit.files:
            if match := _PUBLISHED_NAME.match(basename(path)):
                segments.setdefault(int(match[1]) - 1, []).append(path)
            elif match := _DOCUMENTED_NAME.match(basename(path)):
                segments.setdefault(int(match[1]), []).append(path)
        *above, config, name = folder.split("/")
        yield self._dialogue(
            _Record(
                file=unit.file, folder=folder, turns=rows, domain=record.get("domain"), segments=segments,
                lines=lines, is_refused=f"{folder}/segments" in unit.files,
            ),
            "/".join(above),
            f"{config}/{name}",
        )  # fmt: skip

    def _dialogue(self, record: _Record, above: str, stem: str) -> Dialogue:
        """Roles by who speaks first; `stem` is `<config>/<name>`, which twin renderings share."""
        numbers = turns.numbered([turns.turn_number(t["turn_id"], first=record.first) for t in record.turns])
        rows = sorted(zip(numbers, record.turns, strict=True), key=lambda pair: pair[0])
        speakers = [turn.get("speaker") for _, turn in rows]
        cast = list(dict.fromkeys(speaker for speaker in speakers if speaker in SPEAKERS))[:2]
        variants = [part for part in above.split("/") if part not in ("", "data")]
        return Dialogue(
            conversation_id=f"{variants[-1] if variants else self._corpus.name}/{stem}",
            split="train",
            domain=record.domain if turns.is_text(record.domain) else None,
            turns=tuple(self._turn(record, number, turn, cast) for number, turn in rows),
            twin_key=stem,
            source=record.file,
        )

    def _turn(self, record: _Record, number: int, turn: dict[str, Any], cast: Sequence[str]) -> Turn:
        speaker, text, emotion = turn.get("speaker"), turn.get("text"), turn.get("emotion")
        role = turns.role_of(str(speaker), cast[0], swap_roles=self._swap_roles) if speaker in cast else None
        path = fault = None
        try:
            path = _clip(self._corpus, record, turn)
            if role is None:
                known = cast if len(cast) == 2 else SPEAKERS
                detail = f"found speaker {speaker!r:.80}, expected one of {', '.join(known)}"
                raise BadClipError(Reason.BAD_SPEAKER, detail)
            turns.checked_text(text)
            if match := _PUBLISHED_NAME.match(basename(path)):
                emotion = match[3]
            _compare(basename(path), record, str(speaker), str(text))
        except BadClipError as error:
            fault = turns.fault_of(error, record.file)
        return Turn(
            number=number,
            speaker=str(speaker),
            role=role,
            text=text if isinstance(text, str) else "",
            audio=AudioRef(path=path) if path else None,
            traits=traits.normalise(emotion=emotion),
            fault=fault,
        )


def _unit(stem: str | None, tables: tuple[str, ...], entries: Sequence[Entry]) -> Unit[str | None]:
    weight = sum(entry.num_bytes for entry in entries if not entry.path.endswith(".parquet"))
    files = tuple(entry.path for entry in entries if entry.path not in tables)
    return Unit(payload=stem, opened=tables, files=files, num_bytes=weight)


def _stem(conversation: Any, clip: Any) -> str:
    """`<config>/<name>` of a table's conversation: as it says, or by its clip's folder; "" for neither."""
    folder = str(clip).rpartition("/segments/")[0]
    if "/" not in str(conversation) and "/" in folder:
        return "/".join(folder.split("/")[-2:])  # a bare stem repeats across configs
    return "" if conversation is None else str(conversation)


def _turn_of_table(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table, as a turn of the documented JSON."""
    clip, emotion = row["segment_audio_path"], row.get("audio_ravdess_emotion") or row.get("emotion")
    clip = None if clip in ("", "null") else clip
    return {**row, "turn_id": row["turn_index"], "audio_file": clip, "emotion": emotion}


def _turns(record: Any) -> list[dict[str, Any]]:
    """The turns of a dialogue JSON. Raises ValueError where there are none."""
    rows = (record.get("conversation") or record.get("turns")) if isinstance(record, dict) else None
    if not isinstance(rows, list) or not rows:
        is_object = isinstance(record, dict)
        what = f"the keys {', '.join(map(ascii, record))}" if is_object else type(record).__name__
        raise ValueError(f"{what:.200} without a list of turns under 'conversation' or 'turns'")
    if len(rows) > _MOST_TURNS:
        raise ValueError(f"{len(rows):,} turns, more than the {_MOST_TURNS:,} that a dialogue may have")
    rows = [row if isinstance(row, dict) else {"text": row} for row in rows]
    return [{"turn_id": i, **row} for i, row in enumerate(rows)]


def _clip(corpus: Corpus, record: _Record, turn: dict[str, Any]) -> str:
    """The path of a turn's clip: the one it names, else the one segment file of its number."""
    number, name = turns.turn_number(turn["turn_id"], first=record.first), turn.get("audio_file")
    if number is None:
        detail = f"found turn number {turn['turn_id']!r:.80}, expected a whole number from {record.first}"
        raise BadClipError(Reason.BAD_NUMBER, detail)
    if isinstance(name, str):
        return corpus.resolve(record.folder, name)
    paths = record.segments.get(number, [])
    named = paths if len(paths) == 1 else [path for path in paths if basename(path) in record.lines]
    if len(named) == 1 and name is None:
        return corpus.resolve("", named[0])
    clips = ", ".join(map(basename, paths)) or "none" if name is None else f"the name {name!r:.80}"
    if record.is_refused:
        raise BadClipError(Reason.REFUSED_PATH, "found a symlink in place of segments/, expected a folder")
    detail = f"found {clips}, expected one clip for turn {turn['turn_id']}"
    raise BadClipError(Reason.BAD_NUMBER if paths else Reason.MISSING, detail)


def _compare(name: str, record: _Record, speaker: str, text: str) -> None:
    """Refuse a clip whose name, or whose line in metadata.tsv, tells of another speaker or text."""
    match, line = _PUBLISHED_NAME.match(name), record.lines.get(name, {})
    turns.check_same("speaker", speaker, match[2] if match else None, name)
    turns.check_same("speaker", speaker, line.get("speaker"), name)
    turns.check_same("text", text, line.get("original_text") or line.get("text"), name)


class DeepDialogueTTT(SpeechBuilder):
    """DeepDialogue as training rows."""

    ABOUT = ABOUT
    READER = DeepDialogueReader
    BUILDER_CONFIG_CLASS = DeepDialogueConfig
    BUILDER_CONFIGS = [DeepDialogueConfig(name=name) for name in DIALOGUE_CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "ttt"
