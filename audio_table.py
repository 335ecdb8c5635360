"""Tables of anyone's, of audio and text, as rows: no module of one's own is needed.

Read are, wherever in --data-dir, tables of one format (--table chooses among several):
  parquet, Arrow    clips in their cells, as datasets writes them; `save_to_disk` folders, too
  CSV, TSV, JSONL   each row names its clip: beside the table, or below --audio-root
  tar, tar.gz       webdataset's samples: key.wav with key.txt, or the fields of key.json
  LibriSpeech's     <speaker>-<chapter>.trans.txt beside the clips
  folders           of clips with a text beside each: a.wav, a.txt

Columns are found by their usual names, or named by flags; what was chosen is printed. A row is a
conversation of one turn. With a column of conversations, rows of one make it whole, in the order of their
turns (or starts), wherever in the tables they lie. Who speaks first is the user; --swap-roles,
--assistant, or a column of roles say otherwise. Splits are the words of a column, of a file's name, or of
its folders': train, validation (valid, dev, val), test (eval); else all is train.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechrows.builder import DIALOGUE_CONFIGS
from speechrows.builder import About
from speechrows.builder import Corpus
from speechrows.builder import Dialogue
from speechrows.builder import Entry
from speechrows.builder import Listing
from speechrows.builder import OwnDataConfig
from speechrows.builder import SpeechBuilder
from speechrows.builder import Task
from speechrows.builder import Unit
from speechrows.builder import UnreadableFile
from speechrows.builder import UsageError
from speechrows.builder import build_dataset
from speechrows.builder import flag
from speechrows.builder import how_to_make
from speechrows.builder import satisfies
from speechrows.builder import tables

CONFIGS = (*DIALOGUE_CONFIGS, "answer_extraction", "chat")

ABOUT = About(
    title="Audio and text of a table",
    summary="Speech and text of a table of one's own.",
    licence="other",
    licence_note="That of the data that the table is of.",
    homepage="docs/your-data.md",
    citation="Whoever made the data.",
    languages=("und",),  # the code of a language that no one told
)


@dataclass
class AudioTableConfig(OwnDataConfig):
    """What a person says of a table. Each column may be named, or "" where there is to be none."""

    table: Sequence[str] = flag((), "a table of the folder, or a pattern of their paths; repeatable")
    audio: str | None = flag(None, "the column of clips, or of their names")
    text: str | None = flag(None, "the column of what is said")
    id: str | None = flag(None, "the column of names of rows")
    speaker: str | None = flag(None, "the column of speakers")
    conversation: str | None = flag(None, "the column of conversations")
    turn: str | None = flag(None, "the column of turns' numbers in their conversation")
    start: str | None = flag(None, "the column of when turns start, which orders those without numbers")
    offset: str | None = flag(None, "the column of where in a longer recording clips begin, in seconds")
    duration: str | None = flag(None, "the column of how long these are")
    role: str | None = flag(None, "the column of roles: user or assistant")
    answer: str | None = flag(None, "the column of written answers")
    codes: str | None = flag(None, "the column of Mimi codes, a list a codebook")
    system_column: str | None = flag(None, "the column of conversations' own system prompts")
    split_column: str | None = flag(None, "the column of splits")
    domain: str | None = flag(None, "the column of domains")
    trait: Sequence[str] = flag((), "a column of voices, as emotion=COLUMN; repeatable")
    assistant: str | None = flag(None, "who is the assistant: a speaker, or second, or last")
    swap_roles: bool = flag(False, "the first speaker is the assistant")

    @property
    def columns(self) -> dict[str, str | None]:
        """The columns that are named, by purpose."""
        own = {"system": self.system_column, "split": self.split_column}
        return {purpose: getattr(self, purpose, None) for purpose in tables.USUAL} | own


class AudioTableReader:
    """Reads tables of any format. A unit is a run of their conversations."""

    def __init__(self, corpus: Corpus, config: AudioTableConfig, task: Task) -> None:
        self._config, self._task = config, task
        names = config.clip_names(corpus)
        rule = tables.RoleRule(assistant=config.assistant, swap=config.swap_roles)
        self._names, self._maker = names, tables.DialogueMaker(names=names, task=task, rule=rule)
        self._gathering = tables.Gathering(corpus)

    def units(self, entries: list[Entry]) -> Listing[tables.Run]:
        """The tables' conversations."""
        columns = self._config.columns
        choice = tables.Choice(
            patterns=self._config.table,
            columns=columns if self._task.codec_targets else {**columns, "codes": ""},
            traits=self._config.trait,
            scattered_bytes=self._config.shard_bytes,
        )
        return tables.list_tables(self._names, entries, choice, self._check)

    def _check(self, columns: tables.Columns) -> None:
        """Refuse a config whose rows these columns can not make."""
        task, kinds = self._task, self._config.inputs.generated.kinds
        if task.needs in ("answer", "codes") and not (getattr(columns, task.needs) or satisfies(task, kinds)):
            how = how_to_make(task, "audio_table")
            raise UsageError(f"found no column of them (name one: --{task.needs} COLUMN): {how}")
        if task.pairing == "exchange" and not (columns.conversation or columns.answer):
            raise UsageError(
                f"config {task.name} needs conversations or answers: found no column of either; name one: "
                "--conversation COLUMN or --answer COLUMN"
            )
        if self._config.assistant is not None and not columns.speaker:
            raise UsageError("--assistant: found no column of speakers; name it: --speaker COLUMN")

    def dialogues(self, unit: Unit[tables.Run]) -> Iterator[Dialogue | UnreadableFile]:
        """The conversations of a unit, each when its last row was read."""
        for rows in self._gathering.conversations(unit.payload):
            is_file = isinstance(rows, UnreadableFile)
            yield rows if is_file else self._maker.dialogue(rows, unit.payload)


class AudioTable(SpeechBuilder):
    """Tables of anyone's as training rows."""

    ABOUT = ABOUT
    READER = AudioTableReader
    BUILDER_CONFIG_CLASS = AudioTableConfig
    BUILDER_CONFIGS = [AudioTableConfig(name=name) for name in CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "transcription"
    HAS = frozenset({"answer", "codes"})


def build(dataset: Any, out: str, config: str = "transcription", **options: Any) -> Any:
    """Build a Dataset or IterableDataset that is in hand, or a dict of its splits, into a folder of rows.

    `options` are those of speechrows.builder.build_dataset, and the flags of AudioTableConfig. Returns the
    ledger's counts.
    """
    return build_dataset(AudioTable, dataset, config, out, **options)
