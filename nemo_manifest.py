"""NeMo manifests, of anyone's, as rows: utterances, and conversations in sound and text.

Read are, wherever in --data-dir, files of JSON lines, gzipped or not:
  utterances     {"audio_filepath": "a.wav", "duration": 2.5, "text": "…"}, with offset, speaker, answer,
                 context, where there are any; a clip is `duration` seconds of its file from `offset` on
  conversations  {"id": "c1", "conversations": [{"from": "User", "type": "audio", "value": "a.wav"}, …]}, for
                 the config chat alone: NeMo's multimodal_conversation

A clip lies beside its manifest, or below --audio-root. It is a member of an archive, where there is one:
manifest_0.json names those of audio_0.tar, beside it or above its folder; a single manifest tells archives
apart by shard_id. Messages of one side that follow one another are one.
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
from speechrows.builder import flag
from speechrows.builder import nemo

CONFIGS = (*DIALOGUE_CONFIGS, "chat")

ABOUT = About(
    title="a NeMo manifest",
    summary="Utterances and conversations of one's own, as NeMo's manifests have them.",
    licence="other",
    licence_note="That of the data that the manifests are of.",
    homepage="docs/your-data.md",
    citation="Whoever made the data.",
    languages=("und",),  # the code of a language that no one told
)


@dataclass
class NemoManifestConfig(OwnDataConfig):
    """What a person says of manifests."""

    file: Sequence[str] = flag((), "a manifest of the folder, or a pattern of their paths; repeatable")


class NemoManifestReader:
    """Reads manifests. A unit is a run of lines, or an archive."""

    def __init__(self, corpus: Corpus, config: NemoManifestConfig, task: Task) -> None:
        self._names, self._patterns, self._task = config.clip_names(corpus), config.file, task
        self._stream = nemo.ManifestStream(self._names)

    def units(self, entries: list[Entry]) -> Listing[nemo.ManifestRun]:
        """The runs and archives of the folder."""
        has_chats = self._task.name == "chat"
        return nemo.list_manifests(self._names, entries, self._patterns, has_chats=has_chats)

    def dialogues(self, unit: Unit[nemo.ManifestRun]) -> Iterator[Dialogue | UnreadableFile]:
        """The lines of a unit; one that is of no manifest is told by its place."""
        for at in self._stream.read(unit.payload):
            if isinstance(at, UnreadableFile):
                yield at
                continue
            cells, place = at.record.cells, at.record.place
            try:
                if nemo.is_utterance(cells) or self._task.name != "chat":
                    yield nemo.utterance(nemo.parse_utterance(cells), at, self._names, self._task)
                    continue
                talk = nemo.parse_conversation(cells)
            except nemo.ManifestError as error:
                yield UnreadableFile(file=place, detail=str(error))
                continue
            if talk.is_skipped:
                detail = "found the mark _skipme, expected none: its conversation is not read"
                yield UnreadableFile(file=place, detail=detail, is_remark=True)
            else:
                yield nemo.conversation(talk, at, self._names)


class NemoManifest(SpeechBuilder):
    """NeMo manifests as training rows."""

    ABOUT = ABOUT
    READER = NemoManifestReader
    BUILDER_CONFIG_CLASS = NemoManifestConfig
    BUILDER_CONFIGS = [NemoManifestConfig(name=name) for name in CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "transcription"
