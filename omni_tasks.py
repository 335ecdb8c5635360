"""The omni tasks: clips of many corpora, one a row, as the Hub publishes them in parquet.

Thirteen sources in one table, SOURCES; another is one more entry. Each is read from a folder
that holds `<org>/<name>/…` for every source (those that are not there are named, and no fault), from
a folder or a Hub address of one source, or, without --data-dir, from the Hub.

  transcription       LoquaciousSet (medium), AMI (ihm)
  answer_extraction   HeySQuAD: the first answer; questions that have none are left out
  sift_s sift_ssp sit_ssp
                      sift-audio-2, rows of that mode; and, joined with `--with`, any emotion corpus
  s2s_mimi            libritts-mimi
  omni                all of them, each row once; how they are mixed is mixes/omni.yaml's

An utterance is a conversation of one turn, spoken by the user. Its id is `<source>/<publisher's
split>/<id>`, or `<source>/<publisher's split>/<file>:<row>` where the source has no ids.

Validation. The publisher's own, where there is one. Of the rest, `--validation-fraction` (here 0.02)
of what must not straddle: speakers where they are known, TESS' target words (it has two speakers),
PODCAST's shows, texts where nothing else is known (MELD, and three of sift-audio-2's splits).
sift-audio-2's acted splits have no speaker and few texts: no row of them is ever validation. Where
sift-audio-2 is read beside the corpora whose clips it has, they go as it does, so that no clip is in
both: by the text, or never.

This file is longer than 300 lines: half of it is the table of sources with their licences.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Set
from dataclasses import dataclass
from dataclasses import replace
from functools import cache
from functools import cached_property
from functools import partial
from typing import Any
from typing import ClassVar

from speechrows.builder import SIFT
from speechrows.builder import About
from speechrows.builder import Column
from speechrows.builder import Corpus
from speechrows.builder import Dialogue
from speechrows.builder import Entry
from speechrows.builder import Listing
from speechrows.builder import Source
from speechrows.builder import SourceFile
from speechrows.builder import SpeechBuilder
from speechrows.builder import SpeechConfig
from speechrows.builder import Task
from speechrows.builder import Unit
from speechrows.builder import UnreadableFile
from speechrows.builder import columnar
from speechrows.builder import flag
from speechrows.builder import read_utterances
from speechrows.builder import satisfies

CONFIGS = ("omni", "transcription", "answer_extraction", *SIFT, "s2s_mimi")

_EVALUATED = {"train": "train", "validation": "validation", "dev": "validation", "test": "test"}
# The splits of sift-audio-2 that hold the clips of other sources, by the names of these.
SIFTED = {
    "PODCAST": "podcast",
    "common_voice_17_0": "commonvoice",
    "MELD": "meld",
    "ESD_english": "esd",
    "CREMA-D": "crema_d",
    "TESS": "tess",
    "RAVDESS": "ravdess",
    "SAVEE": "savee",
}


def _abstract_tts(
    name: str,
    *,
    licence: str,
    citation: str,
    speaker: str | None,
    apart: str | None = None,
    emotion: str = "emotion",
    votes: tuple[str, ...] = (),
) -> Source:
    """A corpus as AbstractTTS publishes it. `speaker` is a pattern of file names, `apart` too, else it."""
    return Source(
        repository=f"AbstractTTS/{name}",
        licence=licence,
        citation=citation,
        tasks=SIFT,
        text="transcription",
        speaker=Column(name="file", pattern=speaker) if speaker else None,
        traits={
            "emotion": emotion,
            **{name: name for name in ("gender", "speaking_rate", "relative_db")},
        },
        votes=votes,
        apart=Column(name="file", pattern=apart or speaker),
    )


SIFT_AUDIO = Source(
    repository="mazesmazes/sift-audio-2",
    licence="its card says CC BY-NC-SA 4.0 above and Apache 2.0 below; clips keep their own",
    citation="tiny-audio, github.com/alexkroman/tiny-audio; answers in the manner of AZeroS",
    tasks=SIFT,
    splits=dict.fromkeys(SIFTED.values(), "train"),
    answer="sift_response",
    mode="mode",
    traits={
        **{name: name for name in ("emotion", "gender", "age", "accent")},
        **{"speaking_rate": "pace", "relative_db": "volume"},  # in words
    },
    apart=Column(name="text"),
    apart_in=frozenset(("podcast", "commonvoice", "meld")),
)

SOURCES = (
    Source(
        repository="speechbrain/LoquaciousSet",
        licence="CC BY 3.0 and CC BY 4.0",
        citation=(
            "Parcollet et al., Loquacious Set: 25,000 Hours of Transcribed and Diverse "
            "English Speech, arXiv:2505.21578"
        ),
        tasks=("transcription",),
        folders=("medium", "dev", "test"),
        splits=_EVALUATED,
        audio="wav",
        id="ID",
        speaker=Column(name="spk_id"),
        traits={"gender": "sex"},
    ),
    Source(
        repository="edinburghcstr/ami",
        licence="CC BY 4.0",
        citation="Carletta et al., The AMI Meeting Corpus: A Pre-announcement, MLMI 2005",
        tasks=("transcription",),
        folders=("ihm",),
        splits=_EVALUATED,
        id="audio_id",
        speaker=Column(name="speaker_id"),
    ),
    Source(
        repository="fixie-ai/HeySQuAD_human",
        licence="that of SQuAD, CC BY-SA 4.0; the repository names none",
        citation="Wu et al., HeySQuAD: A Spoken Question Answering Dataset, arXiv:2304.13689",
        tasks=("answer_extraction",),
        splits=_EVALUATED,
        text="question",  # what was read aloud; `transcription` is what a recogniser heard
        id="id",
        answer="answers",
        impossible="is_impossible",
    ),
    SIFT_AUDIO,
    _abstract_tts(
        "CREMA-D",
        licence="Open Database License 1.0",
        citation="Cao et al., CREMA-D: Crowd-Sourced Emotional Multimodal Actors Dataset, IEEE TAC 2014",
        speaker=r"(\d+)_",
        emotion="major_emotion",
        votes=("angry", "sad", "disgust", "fear", "neutral", "happy"),
    ),
    _abstract_tts(
        "RAVDESS",
        licence="CC BY-NC-SA 4.0",
        citation="Livingstone and Russo, The Ryerson Audio-Visual Database (RAVDESS), PLoS ONE 2018",
        speaker=r"-(\d+)\.\w+$",
    ),
    _abstract_tts(
        "TESS",
        licence="CC BY-NC-ND 4.0",
        citation="Pichora-Fuller and Dupuis, Toronto emotional speech set (TESS), Borealis 2020",
        speaker=r"(OAF|YAF)_",
        apart=r"(?:OAF|YAF)_([^_.]+)",  # the target word
    ),
    _abstract_tts(
        "SAVEE",
        licence="for research alone",
        citation="Haq and Jackson, Multimodal Emotion Recognition, in: Machine Audition, IGI Global 2010",
        speaker=r"(DC|JE|JK|KL)[_/]",
    ),
    _abstract_tts(
        "ESD_english",
        licence="for research alone",
        citation="Zhou et al., Emotional Voice Conversion: Theory, Databases and ESD, Speech Comm. 2022",
        speaker=r"(\d{4})_",
    ),
    _abstract_tts(
        "PODCAST",
        licence="MSP-Podcast's, an academic licence that has to be signed",
        citation=(
            "Lotfian and Busso, Building Naturalistic Emotionally Balanced Speech Corpus by "
            "Retrieving Emotional Speech From Existing Podcast Recordings, IEEE TAC 2019"
        ),
        speaker=None,
        apart=r"(?i)MSP-PODCAST_(\d+)",  # the show
        emotion="major_emotion",
        votes=(
            *("angry", "frustrated", "annoyed", "disappointed", "sad", "disgust", "depressed", "contempt"),
            *("confused", "concerned", "fear", "neutral", "surprise", "amused", "excited", "happy"),
        ),
    ),
    Source(
        repository="garam-icecream/MELD",
        licence="GPL-3.0",
        citation=(
            "Poria et al., MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in "
            "Conversations, ACL 2019"
        ),
        tasks=SIFT,
        speaker=Column(name="speaker"),
        traits={"emotion": "emotion"},
        apart=Column(name="text"),  # its one split holds the publisher's train, dev and test
    ),
    Source(
        repository="fixie-ai/common_voice_17_0",
        licence="CC0 1.0",
        citation="Ardila et al., Common Voice: A Massively-Multilingual Speech Corpus, LREC 2020",
        tasks=SIFT,
        folders=("en",),
        splits=_EVALUATED,
        text="sentence",
        speaker=Column(name="client_id"),
        traits={name: name for name in ("gender", "age", "accent")},
        apart=Column(name="client_id"),
    ),
    Source(
        repository="mazesmazes/libritts-mimi",
        licence="CC BY 4.0, as LibriTTS-R",
        citation=(
            "Koizumi et al., LibriTTS-R: A Restored Multi-Speaker Text-to-Speech Corpus, "
            "arXiv:2305.18802; codes of Mimi: Defossez et al., Moshi, arXiv:2410.00037"
        ),
        tasks=("s2s_mimi",),
        splits=_EVALUATED,
        speaker=Column(name="speaker_id"),
        codes="codes",
        apart=Column(name="speaker_id"),
    ),
)

ABOUT = About(
    title="Omni tasks",
    summary="Utterances of 13 speech corpora: transcription, answers, empathy, description, Mimi codes.",
    licence="other",
    licence_note="Each row keeps the licence of its source: "
    + "; ".join(f"{source.repository}: {source.licence}" for source in SOURCES)
    + ".",
    homepage="https://huggingface.co/datasets/mazesmazes/sift-audio-2",
    citation="\n".join(f"{source.name}: {source.citation}" for source in SOURCES),
    languages=("en",),
)


@dataclass
class OmniConfig(SpeechConfig):
    """The flags of these corpora."""

    source: str | None = flag(None, "one Hub repository of the table, in place of all of them")
    validation_fraction: float = flag(0.02, "share of train that becomes validation, by a stable hash")
    emotion_corpora: bool = flag(
        False, "the emotion corpora too where no --with answers them: what `generate sift` reads"
    )
    traits_by_percentile: bool = flag(
        False, "pace and volume by the quartiles of each source, not fixed limits"
    )

    def open_corpus(self) -> Corpus:
        """The corpus at data_dir, or every source on the Hub."""
        if self.data_dir is None and self.source is None:
            return Corpus.open("hf://datasets", folders=tuple(source.repository for source in SOURCES))
        return super().open_corpus()

    @cached_property
    def survey(self) -> Callable[[Corpus, tuple[SourceFile, ...]], columnar.Survey]:
        """Survey the files of a source: once, for all tasks that read them."""
        return cache(partial(columnar.survey, by_percentile=self.traits_by_percentile))

    def __getstate__(self) -> dict[str, Any]:
        """Without the surveys: another process reads files that were surveyed."""
        return {name: value for name, value in super().__getstate__().items() if name != "survey"}


class OmniReader:
    """Reads the sources that a task's rows are of. A unit is a file; its payload says what it is."""

    sources: ClassVar[tuple[Source, ...]] = SOURCES

    def __init__(self, corpus: Corpus, config: OmniConfig, task: Task) -> None:
        self._corpus, self._config, self._task = corpus, config, task

    def units(self, entries: list[Entry]) -> Listing[SourceFile]:
        """The files of the task's sources, in the order of the table."""
        files, num_unread = columnar.find(self._corpus.name, self.sources, entries)
        sifted = {file.publishers_split for file in files.get(SIFT_AUDIO.name, ())}
        listed, unanswered, absent = list[str](), list[str](), list[str]()
        units: list[Unit[SourceFile]] = []
        for source in self.sources:
            if self._task.name not in source.tasks:
                continue
            number = num_unread.get(source.name)
            notes = [f"{number} other files are not read"] if number else []
            if source.name not in files:
                absent.append(source.repository + "".join(f" ({note})" for note in notes))
            elif not self._is_answered(source):
                unanswered.append(source.repository)
            else:
                surveyed, missing = self._config.survey(self._corpus, tuple(files[source.name]))
                units += [_as_in_sift_audio(file, sifted).unit for file in surveyed]
                notes = [f"{len(surveyed)} file{'s' * (len(surveyed) > 1)}", *notes]
                notes += [f"without {', '.join(missing)}"] if missing else []
                listed.append(f"{source.repository} ({', '.join(notes)})")
        listed = listed or ["no parquet file of a source"]
        listed += [f"not read without answers (--with): {', '.join(unanswered)}"] if unanswered else []
        listed += [f"not there: {', '.join(absent)}"] if absent else []
        return Listing(contents="; ".join(listed), units=units)

    def _is_answered(self, source: Source) -> bool:
        """Whether its rows teach anything: emotion corpora have no answers of their own."""
        if self._task.needs != "answer" or source.answer is not None or self._config.emotion_corpora:
            return True
        return satisfies(self._task, self._config.inputs.generated.kinds)

    def dialogues(self, unit: Unit[SourceFile]) -> Iterator[Dialogue | UnreadableFile]:
        """The utterances of a file; of sift-audio-2, those of other modes are left out."""
        return read_utterances(self._corpus, unit.payload, self._task.name)


def _as_in_sift_audio(file: SourceFile, sifted: Set[str]) -> SourceFile:
    """A file whose clips go to validation as sift-audio-2's do, where their split of it is among `sifted`."""
    split = SIFTED.get(file.source.name)
    if split not in sifted or file.split != "train":
        return file
    return replace(file, apart=Column(name=file.source.text) if split in SIFT_AUDIO.apart_in else None)


class OmniTasks(SpeechBuilder):
    """The sources of the omni tasks as training rows."""

    ABOUT = ABOUT
    READER = OmniReader
    BUILDER_CONFIG_CLASS = OmniConfig
    BUILDER_CONFIGS = [OmniConfig(name=name) for name in CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "omni"
    HAS = frozenset({"answer", "codes"})
    UNIONS = {"omni": CONFIGS[1:]}  # noqa: RUF012
