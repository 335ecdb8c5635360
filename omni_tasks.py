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
PODCAST's shows, texts where nothing else is told (MELD, and three of sift-audio-2's splits).
sift-audio-2's acted splits have no speaker and few texts: no row of them is ever validation. Where
sift-audio-2 is read beside the corpora whose clips it has, they go as it does, so that no clip is in
both: by the text, or never.

This file is longer than 300 lines: a third of it is the table of sources with their licences.
"""

import json
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flag
from speechrows.builds.pipeline import Reader
from speechrows.card.prose import About
from speechrows.codec import CODECS
from speechrows.codec import check
from speechrows.corpora import parquet
from speechrows.corpora import traits
from speechrows.corpora.folder import Corpus
from speechrows.corpora.folder import Entry
from speechrows.corpora.reader import Unit
from speechrows.errors import UsageError
from speechrows.rows.tasks import SIFT
from speechrows.sidecar.columns import satisfies
from speechrows.types import AudioRef
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Int16
from speechrows.types import Reason
from speechrows.types import Rule
from speechrows.types import Task
from speechrows.types import Turn
from speechrows.types import UnreadableFile

CONFIGS = ("omni", "transcription", "answer_extraction", *SIFT, "s2s_mimi")

_EVALUATED = {"train": "train", "validation": "validation", "dev": "validation", "test": "test"}
_TRAIN_ALONE = {"train": "train"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A column, or what a pattern's first group finds in it."""

    column: str
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A repository of the Hub and what its columns are. The names of columns are the publisher's.

    `folders` are those of it that are read, "" its root; `splits` maps the publisher's names to ours.
    `traits` goes by the arguments of traits.normalise; `votes` are columns of emotions, each with the
    share of listeners who heard it. `apart` is what never straddles train and validation, None where
    the publisher has split; it holds in `apart_in`, all splits where that is empty. Beside its own clips
    in sift-audio-2, a source goes by what goes there: the text, or no validation.
    """

    repository: str
    licence: str
    citation: str
    tasks: tuple[str, ...] = SIFT
    folders: tuple[str, ...] = ("data", "default", "")
    splits: Mapping[str, str] = field(default_factory=lambda: _TRAIN_ALONE)
    audio: str = "audio"
    text: str = "text"
    id: str | None = None
    speaker: Part | None = None
    answer: str | None = None  # a text, or SQuAD's list of answers, whose first it is
    impossible: str | None = None
    mode: str | None = None
    codes: str | None = None
    traits: Mapping[str, str] = field(default_factory=dict[str, str])
    votes: tuple[str, ...] = ()
    apart: Part | None = None
    apart_in: frozenset[str] = frozenset()
    sifted: str | None = None  # the split of sift-audio-2 that has the same clips

    @property
    def name(self) -> str:
        """The repository's, without the organisation."""
        return self.repository.rpartition("/")[2]

    @property
    def needed(self) -> list[str]:
        """The columns without which its rows can not be made."""
        told = [self.audio, self.text, self.id, self.answer, self.impossible, self.mode, self.codes]
        return list(
            dict.fromkeys([name for name in told if name] + ([self.apart.column] if self.apart else []))
        )

    @property
    def wanted(self) -> list[str]:
        """The columns that are read where they are there."""
        speaker = [self.speaker.column] if self.speaker else []
        return list(dict.fromkeys([*self.needed, *speaker, *self.traits.values(), *self.votes]))


def _abstract_tts(
    name: str,
    *,
    licence: str,
    citation: str,
    sifted: str,
    speaker: str | None,
    apart: str | None = None,
    emotion: str = "emotion",
    votes: tuple[str, ...] = (),
) -> Source:
    """A corpus as AbstractTTS publishes it. `speaker` is a pattern of file names, `apart` too, else it."""
    told = apart or speaker
    return Source(
        repository=f"AbstractTTS/{name}",
        licence=licence,
        citation=citation,
        text="transcription",
        speaker=Part(column="file", pattern=speaker) if speaker else None,
        traits={
            "emotion": emotion,
            **{name: name for name in ("gender", "speaking_rate", "relative_db")},
        },
        votes=votes,
        apart=Part(column="file", pattern=told),
        sifted=sifted,
    )


SIFT_AUDIO = Source(
    repository="mazesmazes/sift-audio-2",
    licence="its card says CC BY-NC-SA 4.0 above and Apache 2.0 below; clips keep their own",
    citation="tiny-audio, github.com/alexkroman/tiny-audio; answers in the manner of AZeroS",
    splits=dict.fromkeys(
        ("podcast", "commonvoice", "meld", "esd", "crema_d", "tess", "ravdess", "savee"), "train"
    ),
    answer="sift_response",
    mode="mode",
    traits={
        **{name: name for name in ("emotion", "gender", "age", "accent")},
        **{"speaking_rate": "pace", "relative_db": "volume"},  # in words
    },
    apart=Part(column="text"),
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
        speaker=Part(column="spk_id"),
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
        speaker=Part(column="speaker_id"),
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
        sifted="crema_d",
        speaker=r"(\d+)_",
        emotion="major_emotion",
        votes=("angry", "sad", "disgust", "fear", "neutral", "happy"),
    ),
    _abstract_tts(
        "RAVDESS",
        licence="CC BY-NC-SA 4.0",
        citation="Livingstone and Russo, The Ryerson Audio-Visual Database (RAVDESS), PLoS ONE 2018",
        sifted="ravdess",
        speaker=r"-(\d+)\.\w+$",
    ),
    _abstract_tts(
        "TESS",
        licence="CC BY-NC-ND 4.0",
        citation="Pichora-Fuller and Dupuis, Toronto emotional speech set (TESS), Borealis 2020",
        sifted="tess",
        speaker=r"(OAF|YAF)_",
        apart=r"(?:OAF|YAF)_([^_.]+)",  # the target word
    ),
    _abstract_tts(
        "SAVEE",
        licence="for research alone",
        citation="Haq and Jackson, Multimodal Emotion Recognition, in: Machine Audition, IGI Global 2010",
        sifted="savee",
        speaker=r"(DC|JE|JK|KL)[_/]",
    ),
    _abstract_tts(
        "ESD_english",
        licence="for research alone",
        citation="Zhou et al., Emotional Voice Conversion: Theory, Databases and ESD, Speech Comm. 2022",
        sifted="esd",
        speaker=r"(\d{4})_",
    ),
    _abstract_tts(
        "PODCAST",
        licence="MSP-Podcast's, an academic licence that has to be signed",
        citation=(
            "Lotfian and Busso, Building Naturalistic Emotionally Balanced Speech Corpus by "
            "Retrieving Emotional Speech From Existing Podcast Recordings, IEEE TAC 2019"
        ),
        sifted="podcast",
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
        sifted="meld",
        licence="GPL-3.0",
        citation=(
            "Poria et al., MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in "
            "Conversations, ACL 2019"
        ),
        speaker=Part(column="speaker"),
        traits={"emotion": "emotion"},
        apart=Part(column="text"),  # its one split holds the publisher's train, dev and test
    ),
    Source(
        repository="fixie-ai/common_voice_17_0",
        sifted="commonvoice",
        licence="CC0 1.0",
        citation="Ardila et al., Common Voice: A Massively-Multilingual Speech Corpus, LREC 2020",
        folders=("en",),
        splits=_EVALUATED,
        text="sentence",
        speaker=Part(column="client_id"),
        traits={name: name for name in ("gender", "age", "accent")},
        apart=Part(column="client_id"),
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
        speaker=Part(column="speaker_id"),
        codes="codes",
        apart=Part(column="speaker_id"),
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

_IDS = ("string", "large_string", "string_view", "integer", "null")
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}")  # <split>-00000-of-00003


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """What a file's path tells."""

    source: Source
    publishers_split: str
    split: str
    stem: str


def _place(corpus_name: str, path: str) -> _Place | str | None:
    """Where a parquet file belongs; the source that does not read it; or None."""
    for source in SOURCES:
        inside = path if corpus_name == source.name else ""
        for prefix in (f"{source.repository}/", f"{source.name}/"):
            inside = inside or (path[len(prefix) :] if path.startswith(prefix) else "")
        if not inside or not path.endswith(".parquet"):
            continue
        *folders, name = inside[: -len(".parquet")].split("/")
        shard = _SHARD.match(name)
        told = shard[1] if shard else name
        if told not in source.splits and folders and folders[-1] in source.splits:
            told = folders.pop()  # <config>/<split>/0000, as the Hub converts
        split = source.splits.get(told) or source.splits.get(told.split(".")[0])  # train.clean.360
        if split is None or (folders[0] if folders else "") not in source.folders:
            return source.name
        return _Place(source=source, publishers_split=told, split=split, stem=name)
    return None


def list_units(
    corpus: Corpus,
    entries: list[Entry],
    *,
    task: str | None = None,
    answered: bool = True,
    by_percentile: bool = False,
) -> tuple[str, list[Unit]]:
    """What was found for a task, or for all, in words, and its files in the order of SOURCES.

    `answered` says that answers come from elsewhere: without them emotion corpora teach nothing.
    """
    files, unread = _by_source(corpus, entries)
    found, absent, unanswered, units = list[str](), list[str](), list[str](), list[Unit]()
    sifted = {place.publishers_split for _, place in files.get(SIFT_AUDIO.name, ())}
    for source in SOURCES:
        if task is not None and task not in source.tasks:
            continue
        mine = files.get(source.name, [])
        note = f", {unread[source.name]} other files are not read" if source.name in unread else ""
        if not mine:
            absent.append(source.repository + (f" ({note[2:]})" if note else ""))
        elif source.tasks == SIFT and source.answer is None and not answered:
            unanswered.append(source.repository)
        else:
            _refuse_copies(mine)
            facts, lacks = _survey(corpus, source, mine, by_percentile)
            if source.sifted in sifted:
                for known in facts.values():
                    known["beside"] = source.sifted
            note += f", without {', '.join(lacks)}" if lacks else ""
            found.append(f"{source.repository} ({len(mine)} file{'s' * (len(mine) > 1)}{note})")
            units += [_unit(entry, place, facts[entry.path]) for entry, place in mine]
    found = found or ["no parquet file of a source"]
    found += [f"not read without answers (--with): {', '.join(unanswered)}"] if unanswered else []
    found += [f"not there: {', '.join(absent)}"] if absent else []
    return "; ".join(found), units


def _by_source(
    corpus: Corpus, entries: Iterable[Entry]
) -> tuple[dict[str, list[tuple[Entry, _Place]]], dict[str, int]]:
    """The files of each source, and how many others it has, by its name."""
    files: dict[str, list[tuple[Entry, _Place]]] = {}
    unread: dict[str, int] = {}
    for entry in entries:
        place = _place(corpus.name, entry.path)
        if isinstance(place, _Place):
            files.setdefault(place.source.name, []).append((entry, place))
        elif place is not None:
            unread[place] = unread.get(place, 0) + 1
    return files, unread


def _refuse_copies(files: Sequence[tuple[Entry, _Place]]) -> None:
    """Raises UsageError: two files would give their rows the same names."""
    named: dict[tuple[str, str], str] = {}
    for entry, place in files:
        first = named.setdefault((place.publishers_split, place.stem), entry.path)
        if first != entry.path:
            raise UsageError(
                f"found {entry.path} beside {first}; expected each file of {place.source.repository} once. "
                "Remove one, or give its folder as --data-dir"
            )


def _unit(entry: Entry, place: _Place, facts: Mapping[str, Any]) -> Unit:
    splits = (place.split, "validation") if _apart(place, facts) else (place.split,)
    name = json.dumps(facts) if facts else ""
    return Unit(file=entry.path, name=name, files=(), num_bytes=entry.num_bytes, splits=splits, opened=True)


def _apart(place: _Place, facts: Mapping[str, Any]) -> Part | None:
    """What of a file's rows never straddles train and validation; None where none becomes validation."""
    source, split = place.source, place.publishers_split
    if place.split != "train":
        return None
    if "beside" in facts:  # what sift-audio-2 does with these clips is done with them here
        return Part(column=source.text) if facts["beside"] in SIFT_AUDIO.apart_in else None
    return source.apart if not source.apart_in or split in source.apart_in else None


def _survey(
    corpus: Corpus, source: Source, files: Sequence[tuple[Entry, _Place]], by_percentile: bool
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What a source's files must know of one another, by path, and the columns that some lack.

    `repeats` are the rows whose id an earlier row of the split has; `limits`, of pace and volume, are the
    quartiles of all its rows. `beside`, which list_units adds, is the split of sift-audio-2 that is read
    beside it and has its clips.
    """

    def choose(path: str, schema: pa.Schema) -> list[str]:
        there = _columns(source, path, schema)
        rated = [source.traits.get(name) for name in ("speaking_rate", "relative_db") if by_percentile]
        return [name for name in there if name in (source.id, *rated)]

    looked = parquet.look(corpus, [entry.path for entry, _ in files], choose)
    facts: dict[str, dict[str, Any]] = {path: {} for path in looked}
    splits: dict[str, list[str]] = {}
    for entry, place in files:
        if source.id and source.id in looked[entry.path].columns:
            splits.setdefault(place.publishers_split, []).append(entry.path)
    for paths in splits.values():
        again = parquet.repeats([looked[path].columns[source.id or ""] for path in paths])
        for path, rows in zip(paths, again, strict=True):
            facts[path] |= {"repeats": rows} if rows else {}
    for limits, argument in [(traits.pace_limits, "speaking_rate"), (traits.volume_limits, "relative_db")]:
        column = source.traits.get(argument)
        if by_percentile and column:
            read = [look.columns[column] for look in looked.values() if column in look.columns]
            told = limits(number for part in read for number in parquet.numbers(part))
            for known in facts.values():
                known.setdefault("limits", {})[limits.__name__] = told
    lacks = {
        name
        for look in looked.values()
        if look.schema is not None
        for name in source.wanted
        if name not in look.schema.names and name not in source.votes
    }
    return facts, sorted(lacks)


def _columns(source: Source, path: str, schema: pa.Schema) -> list[str]:
    """The columns of a file that are read.

    Raises:
        UsageError: one that is needed is not there, or is of a type that can not be it.
    """

    def refuse(column: str, kind: str) -> UsageError:
        has = ", ".join(f"{one.name} ({one.type})" for one in schema)
        return UsageError(
            f"{path}: has the columns {has}; expected {column} {kind}, as {source.repository} publishes "
            "them. Rename or convert the column, or download the file again"
        )

    for column in source.needed:
        if schema.get_field_index(column) < 0:  # not there, or twice
            raise refuse(column, "once")
    audio = schema.field(source.audio).type
    if parquet.is_a(audio, "struct") and audio.get_field_index("bytes") >= 0:
        audio = audio.field("bytes").type
    if not parquet.is_a(audio, "binary", "large_binary", "binary_view", "null"):
        raise refuse(source.audio, "as a struct of bytes and path")
    for column, kinds, words in (
        (source.id, _IDS, "as a string"),
        (source.impossible, ("boolean", "null"), "as true or false"),
    ):
        if column and not parquet.is_a(_plain(schema.field(column).type), *kinds):
            raise refuse(column, words)
    if source.codes and not _is_codes(schema.field(source.codes).type):
        raise refuse(source.codes, "as a list of lists of integers")
    return [name for name in source.wanted if schema.get_field_index(name) >= 0]


def _plain(kind: Any) -> Any:
    return kind.value_type if parquet.is_a(kind, "dictionary") else kind


def _is_codes(kind: Any) -> bool:
    for _ in range(2):
        if not parquet.is_a(kind, "list", "large_list", "fixed_size_list"):
            return False
        kind = kind.value_type
    return parquet.is_a(kind, "integer", "null")  # null where every list is empty


def read_dialogues(
    corpus: Corpus, units: Iterable[Unit], *, task: str | None = None
) -> Iterator[Dialogue | UnreadableFile]:
    """The utterances of some files, in order; `task` is whose mode a row must be of, where it has one."""
    for unit in units:
        place = _place(corpus.name, unit.file)
        assert isinstance(place, _Place)  # list_units made no other
        facts: dict[str, Any] = json.loads(unit.name or "{}")
        rows = _Rows(
            file=unit.file,
            place=place,
            task=task,
            apart=_apart(place, facts),
            repeats=frozenset(facts.get("repeats", ())),
            limits=facts.get("limits", {}),
        )
        for found in parquet.read_batches(corpus, unit.file, partial(_columns, place.source, unit.file)):
            if isinstance(found, UnreadableFile):
                yield found
            else:
                yield from rows.dialogues(*found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """How the rows of one file become utterances."""

    file: str
    place: _Place
    task: str | None
    apart: Part | None
    repeats: frozenset[int]
    limits: Mapping[str, tuple[float, float]]

    def dialogues(self, start: int, batch: pa.RecordBatch) -> Iterator[Dialogue]:
        """The utterances of a batch, whose first row is the file's `start`."""
        source = self.place.source
        said = (source.text, source.answer)  # what is no UTF-8 costs its row here; elsewhere it is spelled
        told = {
            name: parquet.values(
                batch.column(name), "surrogateescape" if name in said else "backslashreplace"
            )
            for name in batch.schema.names
            if name not in (source.audio, source.codes)
        }
        for name, classes in parquet.class_names(batch.schema).items():
            if name in told:
                told[name] = [parquet.class_name(value, classes) for value in told[name]]
        clips = parquet.cells(batch.column(source.audio))
        codes = _codes(batch.column(source.codes)) if source.codes else [None] * len(batch)
        for i, (clip, code) in enumerate(zip(clips, codes, strict=True)):
            yield self._dialogue(start + i, {name: values[i] for name, values in told.items()}, clip, code)

    def _dialogue(
        self, row: int, told: Mapping[str, Any], clip: parquet.Cell, codes: "Codes | str | None"
    ) -> Dialogue:
        source, place = self.place.source, self.place
        own = told[source.id] if source.id else None
        is_repeat = row in self.repeats
        name = f"{place.stem}:{row}" if own in (None, "") or is_repeat else str(own)
        text, left_out = told[source.text], self._left_out(told)
        answer = _first_answer(told[source.answer]) if source.answer else None
        fault = None
        if left_out is None:
            found = _fault(clip, text, answer, codes, repeats=own if is_repeat else None)
            fault = Fault(reason=found[0], detail=found[1], file=f"{self.file}/{row}") if found else None
        turn = Turn(
            number=0,
            speaker=_part(source.speaker, told) or "",
            role="user",
            text=text if isinstance(text, str) else "",
            audio=self._audio(row, own, told, clip),
            traits=self._traits(told),
            fault=fault,
            answer=answer if isinstance(answer, str) else None,
            codes=codes if isinstance(codes, Codes) else None,
            left_out=left_out,
        )
        return Dialogue(
            conversation_id=f"{source.name}/{place.publishers_split}/{name}",
            split=place.split,
            domain=None,
            turns=(turn,),
            twin_key=self._twin_key(told),
            source=self.file,
        )

    def _left_out(self, told: Mapping[str, Any]) -> Rule | None:
        source = self.place.source
        if source.mode and self.task is not None and told[source.mode] != self.task:
            return Rule.OTHER_MODE
        if source.impossible and (
            told[source.impossible] is True or _first_answer(told[source.answer or ""]) is None
        ):
            return Rule.IMPOSSIBLE
        return None

    def _audio(self, row: int, own: Any, told: Mapping[str, Any], clip: parquet.Cell) -> AudioRef | None:
        """A clip under the name that its publisher gave it, below the file and the row."""
        data, path = clip
        if data is None:
            return None
        named = str(path or told.get("file") or own or row).replace("\\", "/").rstrip("/").rpartition("/")[2]
        return AudioRef(path=f"{self.file}/{row}/{named or row}", data=data)

    def _traits(self, told: Mapping[str, Any]) -> traits.Traits:
        source = self.place.source
        raw = {name: told.get(column) for name, column in source.traits.items()}
        votes = {name: told[name] for name in source.votes if isinstance(told.get(name), float)}
        if votes:  # a tie has no emotion, whatever the publisher made of it
            raw["emotion"] = traits.top_vote(votes)
        return traits.normalise(**raw, **self.limits)

    def _twin_key(self, told: Mapping[str, Any]) -> str | None:
        source = self.place.source
        part = _part(self.apart, told)
        if part is None or self.apart is None:
            return None
        if self.apart.column == source.text:
            return "".join(filter(str.isalnum, part.casefold()))  # one text, however a source writes it
        return f"{source.name}/{part}"


def _part(part: Part | None, told: Mapping[str, Any]) -> str | None:
    value = told.get(part.column) if part else None
    if part is None or value in (None, ""):
        return None
    if part.pattern is None:
        return str(value)
    found = re.search(part.pattern, str(value))
    return found[1] if found else None


def _codes(column: parquet.Column) -> list[Codes | str]:
    """Mimi codes, int16 [8, F], or what is wrong with them."""
    column = column.cast(pa.list_(pa.list_(pa.int64())), safe=False)  # what is too large turns negative
    outer, inner = column.offsets.to_numpy(), column.values.offsets.to_numpy()
    flat = pc.fill_null(column.values.values, -1).to_numpy()  # which is no code
    found: list[Codes | str] = []
    for i, is_there in enumerate(column.is_valid().to_pylist()):
        ends = inner[outer[i] : outer[i + 1] + 1]
        lists: Sequence[Int16] = [flat[a:b] for a, b in pairwise(ends)]
        wrong = check(lists, CODECS["mimi"]) if is_there else "found null, expected 8 lists of mimi codes"
        found.append(wrong or Codes(codec="mimi", values=np.array(lists, np.int16)))
    return found


def _first_answer(answers: Any) -> Any:
    """The text of an answer, the first where there are several."""
    if isinstance(answers, dict):  # SQuAD's other form: {"text": [...], "answer_start": [...]}
        answers = answers.get("text")
    first = next(iter(answers), None) if isinstance(answers, list) else answers
    return first.get("text") if isinstance(first, dict) else first


def _fault(
    clip: parquet.Cell, text: Any, answer: Any, codes: Codes | str | None, *, repeats: Any
) -> tuple[Reason, str] | None:
    """What is wrong with a row, before its clip is looked at."""
    if repeats is not None:
        return Reason.BAD_NUMBER, f"found the id {repeats!r:.80} again, expected each once in a split"
    if clip[0] is None:
        told = f"the path {clip[1]!r:.80} alone" if clip[1] else "null"
        return Reason.MISSING, f"found {told}, expected the bytes of a clip. Take the embedded files"
    if text is None:
        return Reason.EMPTY_TEXT, "the text is null; expected words"
    for value in (text, answer):
        if value is not None and not isinstance(value, str):
            return Reason.BAD_TEXT, f"found the text {value!r:.80}, expected a string"
    return (Reason.BAD_CODES, codes) if isinstance(codes, str) else None


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

    def corpus(self) -> Corpus:
        """The corpus at data_dir, or every source on the Hub."""
        if self.data_dir is None and self.source is None:
            return Corpus.open("hf://datasets", folders=tuple(source.repository for source in SOURCES))
        return super().corpus()


class OmniTasks(SpeechBuilder):
    """The sources of the omni tasks as training rows."""

    ABOUT = ABOUT
    BUILDER_CONFIG_CLASS = OmniConfig
    BUILDER_CONFIGS = [OmniConfig(name=name) for name in CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "omni"
    HAS = frozenset({"answer", "codes"})
    UNIONS = {"omni": CONFIGS[1:]}  # noqa: RUF012
    config: OmniConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    list_units = staticmethod(list_units)
    read_dialogues = staticmethod(read_dialogues)

    @classmethod
    def reader(cls, config: SpeechConfig, task: Task) -> Reader:  # noqa: ARG003
        """A task's rows: of sift-audio-2, those of its mode."""
        return partial(read_dialogues, task=task.name)

    def units(self, task: Task, corpus: Corpus, listing: list[Entry]) -> tuple[str, list[Unit]]:
        """A task's sources."""
        return list_units(
            corpus,
            listing,
            task=task.name,
            answered=satisfies(task, self._generated.kinds) or self.config.emotion_corpora,
            by_percentile=self.config.traits_by_percentile,
        )
