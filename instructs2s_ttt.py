"""InstructS2S-200K: about 200 000 spoken conversations of a human and an assistant, in English.

The corpus of LLaMA-Omni and LLaMA-Omni2: instructions of Alpaca and UltraChat, rewritten for
speech and spoken by text-to-speech; turns of human and gpt alternate, human first, gpt last.
What is said of it elsewhere and does not hold: that en_part_* are JSON (they are byte slices of
one tar.gz of WAV, some 345 GB), that its units are of HuBERT (they are the speech tokens of CosyVoice 2,
25 a second, 0 to 6560), that it is single-turn, and that it has no conversation ids.

Read are, beside instruct_en_200k_data_cosy2.json, one JSON array of
{id, conversation: [{from: human|gpt, text, speech: path of a WAV, unit: [numbers]}]}:
  unpacked  the WAVs, wherever in the folder: found by the last parts of their paths; in parallel
  packed    en_part_* (or the one tar.gz), read as one stream by one process, never unpacked to disk;
            but where the archive scatters conversations, clips wait in the temporary folder (TMPDIR)
Also `conversations` with `value` (LLaMA-Omni's first form), and records without ids of
instruction, speech_input, response, speech_response, where the two name WAVs.

Rows of a user's turn are answered by the next turn of gpt, whose units are `codec_targets`.
`--turns-per-conversation N` joins N records of one human and one gpt turn each to one conversation.

This file is longer than 300 lines: it reads two layouts and three kinds of records.
"""

import itertools
import re
import reprlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets.utils import logging

from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flag
from speechrows.builds.sharding import SHARD_BYTES
from speechrows.card.prose import About
from speechrows.codec import CODECS
from speechrows.codec import check
from speechrows.corpora.folder import Corpus
from speechrows.corpora.folder import Entry
from speechrows.corpora.folder import basename
from speechrows.corpora.json_stream import NOT_TEXT
from speechrows.corpora.reader import Unit
from speechrows.corpora.tar_join import Clips
from speechrows.corpora.tar_join import Met
from speechrows.corpora.tar_join import Talks
from speechrows.corpora.tar_join import meet
from speechrows.corpora.text_index import TextIndex
from speechrows.corpora.text_index import Told
from speechrows.corpora.text_index import open_index
from speechrows.corpora.text_index import shared_parts
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.rows.curriculum import DIALOGUE_CONFIGS
from speechrows.types import AudioRef
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Int16
from speechrows.types import Reason
from speechrows.types import Role
from speechrows.types import Task
from speechrows.types import Turn
from speechrows.types import UnreadableFile

SOURCE = "ICTNLP/InstructS2S-200K"
CONFIGS = DIALOGUE_CONFIGS
CODEC = CODECS["cosyvoice2"]

ABOUT = About(
    title="InstructS2S-200K",
    summary="About 200 000 spoken multi-turn conversations of a human and an assistant, in English.",
    licence="cc-by-nc-4.0",
    licence_note="The corpus' card says CC BY-NC 4.0: no commercial use.",
    homepage=f"https://huggingface.co/datasets/{SOURCE}",
    citation=(
        "@article{fang2024llamaomni,\n"
        "  title={LLaMA-Omni: Seamless Speech Interaction with Large Language Models},\n"
        "  author={Fang, Qingkai and Guo, Shoutao and Zhou, Yan and Ma, Zhengrui and Zhang, Shaolei "
        "and Feng, Yang},\n"
        "  journal={arXiv preprint arXiv:2409.06666},\n"
        "  year={2024}\n}\n"
        "@article{fang2025llamaomni2,\n"
        "  title={LLaMA-Omni2: LLM-based Real-time Spoken Chatbot with Autoregressive Streaming Speech "
        "Synthesis},\n"
        "  author={Fang, Qingkai and Zhou, Yan and Guo, Shoutao and Zhang, Shaolei and Feng, Yang},\n"
        "  journal={arXiv preprint arXiv:2505.02625},\n"
        "  year={2025}\n}"
    ),
    languages=("en",),
)

_SLICE = re.compile(r"(?:.*/)?en_part_(\w+)")
_ARCHIVE = re.compile(r".*\.(?:tar|tar\.gz|tgz)")
_JSON = re.compile(r"(?:.*/)?(?:instruct|en_part)[^/]*\.json")  # as published, or as documented
_AUDIO = re.compile(r".*\.(?:wav|flac|opus|ogg|mp3)", re.IGNORECASE | re.DOTALL)
_ROLES: Mapping[str, Role] = {"human": "user", "gpt": "assistant"}

logger = logging.get_logger(__name__)


def list_units(
    corpus: Corpus,
    entries: list[Entry],
    *,
    turns_per_conversation: int = 0,
    shard_bytes: int = SHARD_BYTES,
) -> tuple[str, list[Unit]]:
    """What was found in the corpus' listing, in words, and its conversations or runs of them, in order."""
    files = [entry for entry in entries if not entry.refused]
    jsons = [entry.path for entry in files if entry.path.endswith(".json")]
    jsons = [path for path in jsons if _JSON.fullmatch(path)] or [
        path for path in jsons if basename(path) != "dataset_infos.json"
    ]
    if not jsons:
        return "no instruct_en_200k_data_cosy2.json", []
    index = open_index(corpus, jsons, _tell)
    talks = Talks.of(index, turns_per_conversation)
    clips, num_missing = _find_clips(index, entries)
    num_clips = int(np.count_nonzero(clips >= 0))
    said = f"{len(talks)} conversations of {index.num_records} records in {', '.join(jsons)}"
    slices = _slices(files)
    if slices and num_missing:
        told = f", of which {num_clips} clips lie unpacked: these are not read" if num_clips else ""
        hole = f" ({holes})" if (holes := _holes([entry.path for entry in slices])) else ""
        said += f"; one archive in {len(slices)} files{hole}{told}, read as one stream by one process"
        return f"{said} (unpacked, the corpus builds in parallel)", _runs(talks, slices, jsons, shard_bytes)
    said += f"; {num_clips} clips, unpacked" + (f", {num_missing} missing" if num_missing else "")
    return said + (f" (not read: {slices[0].path} and the like)" if slices else ""), [
        _conversation_unit(i, rows, jsons, entries, clips) for i, rows in enumerate(talks.rows())
    ]


def _slices(files: Sequence[Entry]) -> list[Entry]:
    """The files of one archive, in order."""
    found = [entry for entry in files if _SLICE.fullmatch(entry.path)]
    if found:
        folder = found[0].path.rpartition("/")[0]
        return [entry for entry in found if entry.path.rpartition("/")[0] == folder]
    return [entry for entry in files if _ARCHIVE.fullmatch(entry.path)][:1]


def _holes(paths: Sequence[str]) -> str:
    """Which numbers between the first and the last slice are missing, in words."""
    told = [match[1] for path in paths if (match := _SLICE.fullmatch(path)) and match[1].isdecimal()]
    lost = sorted(set(range(max(map(int, told), default=-1) + 1)) - set(map(int, told)))
    return f"en_part_{lost[0]:02} is missing, and with it all that follows" if lost else ""


def _find_clips(index: TextIndex, entries: Sequence[Entry]) -> tuple[npt.NDArray[np.int32], int]:
    """Which entry is each turn's clip, -1 where none is, and how many turns lack theirs."""
    clips, speech = np.full(index.num_rows, -1, np.int32), index.column("speech")
    for i, entry in enumerate(entries):
        for row in index.rows_of(entry.path) if _AUDIO.fullmatch(entry.path) else ():
            there = int(clips[row])
            name = "" if there < 0 else str(speech[row])
            if there < 0 or shared_parts(entry.path, name) > shared_parts(entries[there].path, name):
                clips[row] = i
    return clips, int(np.count_nonzero((clips < 0) & speech.is_valid().to_numpy()))


def _conversation_unit(
    number: int,
    rows: npt.NDArray[np.int64],
    jsons: Sequence[str],
    entries: Sequence[Entry],
    clips: npt.NDArray[np.int32],
) -> Unit:
    mine = [entries[i] for i in dict.fromkeys(clips[rows].tolist()) if i >= 0]
    files = (*jsons[1:], *(entry.path for entry in mine))
    weight = sum(entry.num_bytes for entry in mine)
    return Unit(file=jsons[0], name=str(number), files=files, num_bytes=weight)


def _runs(talks: Talks, slices: Sequence[Entry], jsons: Sequence[str], shard_bytes: int) -> list[Unit]:
    """Runs of conversations in the archive's order, of about `shard_bytes` of it each."""
    total = sum(entry.num_bytes for entry in slices)
    count = min(max(1, -(-total // shard_bytes)), max(1, len(talks)))
    files = (*(entry.path for entry in slices[1:]), *jsons)
    bounds = [i * len(talks) // count for i in range(count + 1)]
    weights = [i * total // count for i in range(count + 1)]
    return [
        Unit(
            file=slices[0].path,
            name=f"{bounds[i]}:{bounds[i + 1]}",
            files=files,
            num_bytes=weights[i + 1] - weights[i],
            in_stream=True,
        )
        for i in range(count)
    ]


def _tell(record: Any) -> Sequence[Told]:
    """The turns of a JSON record of any of the three kinds, each with its fault."""
    if not isinstance(record, dict):
        return [_faulty(f"{reprlib.repr(record)}, expected an object with a conversation")]
    turns = record.get("conversation") or record.get("conversations")
    if "instruction" in record and turns is None:
        turns = [
            {"from": "human", "text": record["instruction"], "speech": _path_of(record, "speech_input")},
            {"from": "gpt", "text": record.get("response"), "speech": _path_of(record, "speech_response")},
        ]
    elif not isinstance(record.get("id"), str) or not record["id"].strip() or NOT_TEXT in record["id"]:
        return [
            _faulty(f"the id {reprlib.repr(record.get('id'))}, expected a string, once") for _ in _some(turns)
        ]
    if not isinstance(turns, list) or not turns:
        keys = reprlib.repr(list(record))
        return [_faulty(f"the keys {keys} without a list of turns, expected one as 'conversation'")]
    if isinstance(record.get("speech"), str) and isinstance(turns[0], dict):  # LLaMA-Omni: one a record
        turns = [{"speech": record["speech"], **turns[0]}, *turns[1:]]
    speakers = [turn.get("from") if isinstance(turn, dict) else None for turn in turns]
    return [_tell_turn(record.get("id"), turn, i, speakers) for i, turn in enumerate(turns)]


def _faulty(found: str, reason: Reason = Reason.METADATA_DISAGREES) -> Told:
    return Told(reason=reason, detail=f"found {found}")


def _some(turns: Any) -> Sequence[Any]:
    return turns if isinstance(turns, list) and turns else [None]


def _path_of(record: Mapping[str, Any], key: str) -> Any:
    """What a record without a conversation has as a path; units alone are none: a list, and so a fault."""
    value = record.get(key)
    return value if value is None or (isinstance(value, str) and _AUDIO.fullmatch(value)) else [value]


def _tell_turn(name: str | None, turn: Any, number: int, speakers: Sequence[Any]) -> Told:
    told = turn if isinstance(turn, dict) else {}
    text, speech, speaker = told.get("text", told.get("value")), told.get("speech"), speakers[number]
    units, bad_units = _units(told.get("unit"))
    fault: tuple[Reason, str] | None = None
    if not isinstance(turn, dict):
        fault = Reason.BAD_TEXT, f"found {reprlib.repr(turn)}, expected a turn of from, text, speech, unit"
    elif (wrong := _wrong_speaker(number, speakers)) is not None:
        fault = Reason.BAD_SPEAKER, wrong
    elif not isinstance(text, str) or NOT_TEXT in text:
        fault = Reason.BAD_TEXT, f"found text {reprlib.repr(text)}, expected a string of UTF-8"
    elif "<speech>" in text:
        detail = f"found {reprlib.repr(text)}, a prompt that names no words, expected what is said"
        fault = Reason.BAD_TEXT, detail
    elif speech and (not isinstance(speech, str) or NOT_TEXT in speech):
        what = "units alone, " if isinstance(speech, list) else ""
        fault = Reason.MISSING, f"found {what}{reprlib.repr(speech)}, expected the path of a WAV"
    is_text = isinstance(text, str) and (fault is None or fault[0] is not Reason.BAD_TEXT)
    return Told(
        id=name,
        speaker=speaker if isinstance(speaker, str) else None,
        text=str(text) if is_text else "",
        speech=speech if isinstance(speech, str) and speech else None,
        units=units,
        bad_units=bad_units,
        reason=fault and fault[0],
        detail=fault and fault[1],
    )


def _wrong_speaker(number: int, speakers: Sequence[Any]) -> str | None:
    """What breaks the order of speakers at a turn: human first, then by turns, gpt last."""
    speaker, before = speakers[number], speakers[number - 1] if number else None
    if not isinstance(speaker, str) or speaker not in _ROLES:
        return f"found a turn from {reprlib.repr(speaker)}, expected human or gpt"
    if not number and speaker != "human":
        return "found gpt first, expected human"
    if number and speaker == before:
        return f"found {speaker} twice in a row, expected human and gpt by turns"
    if number == len(speakers) - 1 and speaker != "gpt":
        return "found human last, expected gpt"
    return None


def _units(told: Any) -> tuple[Int16 | None, str | None]:
    """The units of a turn, int16 [F], or what is wrong with them; neither where there are none."""
    if told is None:
        return None, None
    if not isinstance(told, list):
        return None, f"found {reprlib.repr(told)} as its units, expected a list of {CODEC.name} codes"
    wrong = check([told], CODEC)
    return (None, wrong) if wrong else (np.array(told, np.int16), None)


def read_dialogues(
    corpus: Corpus, units: Iterable[Unit], *, turns_per_conversation: int = 0, with_codes: bool = True
) -> Iterator[Dialogue | UnreadableFile]:
    """The conversations of some units, in order, packed or not."""
    return Reader(turns_per_conversation, with_codes=with_codes)(corpus, units)


class Reader:
    """Reads units, and goes on in an open archive from one call to the next."""

    def __init__(self, turns_per_conversation: int = 0, *, with_codes: bool = True) -> None:
        self._turns_per_conversation = turns_per_conversation
        self._with_codes = with_codes
        self._talks: tuple[Corpus, list[str], Talks] | None = None
        self._stream: tuple[tuple[str, ...], Iterator[Met | UnreadableFile]] | None = None
        self._at = 0  # conversations met in the stream

    def __call__(self, corpus: Corpus, units: Iterable[Unit]) -> Iterator[Dialogue | UnreadableFile]:
        """The conversations of some units, in order."""
        for unit in units:
            talks = self._open(corpus, unit)
            if unit.in_stream:
                yield from self._run(corpus, unit, talks)
            else:
                number = int(unit.name)
                yield self._dialogue(corpus, talks, number, _unpacked(corpus, unit, talks, number))

    def _open(self, corpus: Corpus, unit: Unit) -> Talks:
        jsons = [path for path in (unit.file, *unit.files) if path.endswith(".json")]
        if self._talks is None or self._talks[:2] != (corpus, jsons):
            talks = Talks.of(open_index(corpus, jsons, _tell), self._turns_per_conversation)
            self._talks = corpus, jsons, talks
        return self._talks[2]

    def _run(self, corpus: Corpus, unit: Unit, talks: Talks) -> Iterator[Dialogue | UnreadableFile]:
        """A run of conversations in the order in which the archive completes them."""
        first, stop = map(int, unit.name.split(":"))
        archive = (unit.file, *(path for path in unit.files if not path.endswith(".json")))
        if self._stream is None or self._stream[0] != archive or first < self._at:
            self._stream, self._at = (archive, meet(corpus, archive, talks)), 0
            if first:
                logger.warning(
                    f"instructs2s: reading {unit.file} and what follows again from the start: the first "
                    f"{first} of its {len(talks)} conversations are built already, or by another process"
                )
        for found in self._stream[1]:
            is_mine = self._at >= first
            if isinstance(found, UnreadableFile):
                if is_mine:
                    yield found
                continue
            self._at += 1
            if is_mine:
                yield self._dialogue(corpus, talks, *found)
            if self._at == stop < len(talks):  # the last run reads on, to the archive's end
                return

    def _dialogue(self, corpus: Corpus, talks: Talks, number: int, clips: Clips) -> Dialogue | UnreadableFile:
        records = talks.records(number)
        told = [turn for record in records for turn in talks.index.turns(record)]
        if told[0].detail is not None and told[0].reason is None:
            return UnreadableFile(file=told[0].file, detail=told[0].detail)
        name = told[0].id or f"record_{records[0]:06}"
        if talks.synthetic[number] >= 0:
            name = f"synthetic_{talks.synthetic[number]:06}"
        rows = talks.rows_of(number).tolist()
        return Dialogue(
            conversation_id=f"{corpus.name}/{name}",
            split="train",
            domain=None,
            turns=tuple(
                _turn(i, one, clips.get(row), with_codes=self._with_codes)
                for i, (row, one) in enumerate(zip(rows, told, strict=True))
            ),
            twin_key=name,
            source=told[0].file,
        )


def _turn(number: int, told: Told, clip: AudioRef | Fault | None, *, with_codes: bool) -> Turn:
    role = _ROLES.get(told.speaker or "")
    fault = clip if isinstance(clip, Fault) else None
    if told.reason is not None:
        fault = Fault(reason=told.reason, detail=told.detail or "", file=told.file)
    elif fault is None and told.bad_units and with_codes and role == "assistant":  # only these are targets
        fault = Fault(reason=Reason.BAD_CODES, detail=told.bad_units, file=told.file)
    codes = (
        Codes(codec=CODEC.name, values=told.units[None]) if told.units is not None and with_codes else None
    )
    return Turn(
        number=number,
        speaker=str(told.speaker),
        role=role,
        text=told.text,
        audio=clip if isinstance(clip, AudioRef) else None,
        fault=fault,
        codes=codes,
    )


def _unpacked(corpus: Corpus, unit: Unit, talks: Talks, number: int) -> Clips:
    """The clips of a conversation whose files lie in the corpus' folder."""
    named = {
        name: list(paths) for name, paths in itertools.groupby(sorted(unit.files, key=basename), basename)
    }
    clips: dict[int, AudioRef | Fault] = {}
    told = [turn for record in talks.records(number) for turn in talks.index.turns(record)]
    for row, turn in zip(talks.rows_of(number).tolist(), told, strict=True):
        if turn.speech is None:
            continue
        paths = named.get(basename(turn.speech), [turn.speech])
        try:
            path = max(paths, key=partial(shared_parts, turn.speech))
            clips[row] = AudioRef(path=corpus.resolve("", path))
        except BadClipError as error:
            clips[row] = Fault(reason=error.reason, detail=error.detail, file=turn.file)
    return clips


@dataclass
class InstructS2SConfig(SpeechConfig):
    """The flags of this corpus."""

    source: str | None = flag(SOURCE, "the Hub repository")
    turns_per_conversation: int = flag(0, "join so many records of one exchange to one conversation")

    def check(self) -> None:
        """Refuse values that make no rows."""
        super().check()
        if self.turns_per_conversation < 0:
            found = self.turns_per_conversation
            raise UsageError(f"turns per conversation: found {found}, expected a number from 0 (off)")


class InstructS2STTT(SpeechBuilder):
    """InstructS2S-200K as training rows."""

    ABOUT = ABOUT
    BUILDER_CONFIG_CLASS = InstructS2SConfig
    BUILDER_CONFIGS = [InstructS2SConfig(name=name) for name in CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "ttt"

    list_units = staticmethod(list_units)
    read_dialogues = staticmethod(read_dialogues)

    @classmethod
    def reader(cls, config: SpeechConfig, task: Task) -> Reader:
        """One reader a process: in an archive it goes on from shard to shard."""
        assert isinstance(config, InstructS2SConfig)
        return Reader(config.turns_per_conversation, with_codes=task.codec_targets == "answer")

    def units(self, task: Task, corpus: Corpus, listing: list[Entry]) -> tuple[str, list[Unit]]:  # noqa: ARG002
        """What was found in a corpus, in words, and its units in order."""
        config = self.config
        assert isinstance(config, InstructS2SConfig)
        joined = config.turns_per_conversation
        return list_units(corpus, listing, turns_per_conversation=joined, shard_bytes=self.shard_bytes)
