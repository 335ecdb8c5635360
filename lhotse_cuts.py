"""Cuts of lhotse's, of anyone's, as rows: conversations in long recordings, or utterances.

Read are, wherever in --data-dir:
  cuts          manifests of cuts, JSON lines, gzipped or not: MonoCut, MultiCut, MixedCut without effects
  SHAR          cuts.000000.jsonl.gz, recording.000000.tar, target_audio.000000.tar, …
  recordings    manifests of recordings beside manifests of supervisions, where there are no cuts

A cut is a conversation, or a recording is. Its supervisions are the turns, in the order of their starts, each
with its slice of the recording, of its channel, sample-exact. Where they overlap, so do the turns. A clip
lies beside its manifest, or below --audio-root.

Speakers that are called user, agent, assistant and the like have that role. Of two others, who speaks first
is the user; of more, and of numbers, --assistant says who is the assistant. `custom.target_audio` is the
assistant's sound. A cut of one supervision with `custom.answer` is a question and its answer.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

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
from speechrows.builder import cuts
from speechrows.builder import flag
from speechrows.builder import tables

ABOUT = About(
    title="a set of lhotse cuts",
    summary="Conversations and utterances of one's own, as lhotse's manifests and SHAR have them.",
    licence="other",
    licence_note="That of the data that the cuts are of.",
    homepage="docs/your-data.md",
    citation="Whoever made the data.",
    languages=("und",),  # the code of a language that no one told
)


@dataclass
class LhotseCutsConfig(OwnDataConfig):
    """What a person says of cuts."""

    file: Sequence[str] = flag((), "a manifest of the folder, or a pattern of their paths; repeatable")
    assistant: str | None = flag(None, "who is the assistant: a speaker, or second, or last")
    swap_roles: bool = flag(False, "of two speakers without roles, the first is the assistant")


class LhotseCutsReader:
    """Reads cuts. A unit is a run of a manifest's, or a shard."""

    def __init__(self, corpus: Corpus, config: LhotseCutsConfig, task: Task) -> None:
        self._names, self._patterns = config.clip_names(corpus), config.file
        rule = tables.RoleRule(assistant=config.assistant, swap=config.swap_roles)
        self._maker = cuts.CutMaker(names=self._names, task=task, rule=rule)
        self._stream = cuts.CutStream(corpus)

    def units(self, entries: list[Entry]) -> Listing[cuts.CutRun]:
        """The runs and shards of the folder."""
        return cuts.list_cuts(self._names, entries, self._patterns)

    def dialogues(self, unit: Unit[cuts.CutRun]) -> Iterator[Dialogue | UnreadableFile]:
        """The cuts of a unit; a record that is none is told by its line."""
        for at in self._stream.read(unit.payload):
            if isinstance(at, UnreadableFile):
                yield at
                continue
            try:
                cut = cuts.parse_cut(at.record.cells)
            except cuts.CutError as error:
                yield UnreadableFile(file=at.record.place, detail=str(error))
                continue
            dialogue = self._maker.dialogue(cut, at)
            if dialogue.turns:
                yield dialogue
            else:
                detail = "found no supervision, expected at least one: nothing that is said in it is told"
                yield UnreadableFile(file=at.record.place, detail=detail, is_remark=True)


class LhotseCuts(SpeechBuilder):
    """Cuts of lhotse's as training rows."""

    ABOUT = ABOUT
    READER = LhotseCutsReader
    BUILDER_CONFIG_CLASS = LhotseCutsConfig
    BUILDER_CONFIGS = [LhotseCutsConfig(name=name) for name in DIALOGUE_CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "ttt"
