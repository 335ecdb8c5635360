"""InstructS2S-200K: about 200 000 spoken conversations of a human and an assistant, in English.

The corpus of LLaMA-Omni and LLaMA-Omni2: instructions of Alpaca and UltraChat, rewritten for
speech and spoken by text-to-speech; turns of human and gpt alternate, human first, gpt last.
What is written of it elsewhere and does not hold: that en_part_* are JSON (they are byte slices of
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
"""

import re
import reprlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechrows.builder import DIALOGUE_CONFIGS
from speechrows.builder import About
from speechrows.builder import AudioRef
from speechrows.builder import Codes
from speechrows.builder import Corpus
from speechrows.builder import Dialogue
from speechrows.builder import Entry
from speechrows.builder import Fault
from speechrows.builder import Listing
from speechrows.builder import Reason
from speechrows.builder import Role
from speechrows.builder import SpeechBuilder
from speechrows.builder import SpeechConfig
from speechrows.builder import Task
from speechrows.builder import Turn
from speechrows.builder import Unit
from speechrows.builder import UnreadableFile
from speechrows.builder import UsageError
from speechrows.builder import basename
from speechrows.builder import codec
from speechrows.builder import flag
from speechrows.builder import json_stream
from speechrows.builder import tar_join
from speechrows.builder import text_index
from speechrows.builder import turns
from speechrows.builder import unpacked_clips

SOURCE = "ICTNLP/InstructS2S-200K"
CODEC = codec.CODECS["cosyvoice2"]

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
_JSON = re.compile(r"(?:.*/)?(?:instruct|en_part)[^/]*\.json")  # as published, or as documented
RECORD_START = re.compile(rb'\{\s*"(?:id|instruction)"\s*:')  # a record's first key, as published
_ROLES: Mapping[str, Role] = {"human": "user", "gpt": "assistant"}


@dataclass
class InstructS2SConfig(SpeechConfig):
    """The flags of this corpus."""

    source: str | None = flag(SOURCE, "the Hub repository")
    turns_per_conversation: int = flag(0, "join so many records of one exchange to one conversation")

    def check(self) -> None:
        """Refuse values that make no rows."""
        super().check()
        if self.turns_per_conversation < 0:
            number = self.turns_per_conversation
            raise UsageError(f"turns per conversation: found {number}, expected a number from 0 (off)")


class InstructS2SReader:
    """Reads the corpus unpacked or packed.

    Unpacked, a unit is a conversation; its payload is the number in the JSON. Packed, a unit is a run of
    conversations in the order in which the archive completes them; its payload is their range.
    """

    def __init__(self, corpus: Corpus, config: InstructS2SConfig, task: Task) -> None:
        self._corpus = corpus
        self._turns_per_conversation = config.turns_per_conversation
        self._shard_bytes = config.shard_bytes
        self._with_codes = task.codec_targets == "answer"
        self._conversations: tar_join.Conversations | None = None  # of the JSONs, once opened
        self._runs: tar_join.JoinedRuns | None = None  # of the archive, once opened

    def units(self, entries: list[Entry]) -> Listing[int | range]:
        """The conversations, or runs of them."""
        files = [entry for entry in entries if not entry.refused]
        jsons = [entry.path for entry in files if entry.path.endswith(".json")]
        jsons = [path for path in jsons if _JSON.fullmatch(path)] or [
            path for path in jsons if basename(path) != "dataset_infos.json"
        ]
        if not jsons:
            return Listing(contents="no instruct_en_200k_data_cosy2.json", units=[])
        conversations = self._open(jsons)
        clips = unpacked_clips.find_clips(conversations, entries)
        num_clips, num_missing = clips.num_clips, clips.num_missing
        slices = tar_join.slices_of(files, _SLICE)
        num_records = conversations.index.num_records
        summary = f"{len(conversations)} conversations of {num_records} records in {', '.join(jsons)}"
        if slices and num_missing:
            lost = tar_join.missing_slice(slices, _SLICE)
            hole = "" if lost is None else f" (en_part_{lost:02} is missing, and with it all that follows)"
            note = f", of which {num_clips} clips lie unpacked: these are not read" if num_clips else ""
            summary += f"; one archive in {len(slices)} files{hole}{note}, read as one stream by one "
            summary += "process (unpacked, the corpus builds in parallel)"
            opened = (*(entry.path for entry in slices), *jsons)
            runs = conversations.runs(sum(entry.num_bytes for entry in slices), self._shard_bytes)
            units: list[Unit[int | range]] = [
                Unit(payload=run, opened=opened, num_bytes=weight, in_stream=True) for run, weight in runs
            ]
            return Listing(contents=summary, units=units)
        summary += f"; {num_clips} clips, unpacked" + (f", {num_missing} missing" if num_missing else "")
        summary += f" (not read: {slices[0].path} and the like)" if slices else ""
        return Listing(contents=summary, units=clips.units(jsons))

    def _open(self, jsons: Sequence[str]) -> tar_join.Conversations:
        if self._conversations is None:
            index = text_index.open_index(self._corpus, jsons, RECORD_START, parse_record)
            self._conversations = tar_join.Conversations.of(index, self._turns_per_conversation)
        return self._conversations

    def dialogues(self, unit: Unit[int | range]) -> Iterator[Dialogue | UnreadableFile]:
        """The conversations of a unit."""
        conversations = self._open([path for path in unit.opened if path.endswith(".json")])
        if isinstance(unit.payload, int):
            clips = unpacked_clips.clips_of(conversations, unit.payload, self._corpus, unit.files)
            yield self._dialogue(conversations, unit.payload, clips)
            return
        if self._runs is None:
            archive = [path for path in unit.opened if not path.endswith(".json")]
            self._runs = tar_join.JoinedRuns(self._corpus, archive, conversations)
        for joined in self._runs.read(unit.payload):
            is_file = isinstance(joined, UnreadableFile)
            yield joined if is_file else self._dialogue(conversations, *joined)

    def _dialogue(
        self, conversations: tar_join.Conversations, number: int, clips: tar_join.Clips
    ) -> Dialogue | UnreadableFile:
        rows = conversations.turns(number)
        _, first = rows[0]
        if first.detail is not None and first.reason is None:
            return UnreadableFile(file=first.file, detail=first.detail)
        name = first.id or f"record_{conversations.records(number)[0]:06}"
        if conversations.synthetic[number] >= 0:
            name = f"synthetic_{conversations.synthetic[number]:06}"
        return Dialogue(
            conversation_id=f"{self._corpus.name}/{name}",
            split="train",
            domain=None,
            turns=tuple(
                _turn(i, record, clips.get(row), with_codes=self._with_codes)
                for i, (row, record) in enumerate(rows)
            ),
            twin_key=name,
            source=first.file,
        )


def _turn(
    number: int, record: text_index.TurnRecord, clip: AudioRef | Fault | None, *, with_codes: bool
) -> Turn:
    role = _ROLES.get(record.speaker or "")
    fault = clip if isinstance(clip, Fault) else None
    if record.reason is not None:
        fault = Fault(reason=record.reason, detail=record.detail or "", file=record.file)
    elif fault is None and record.bad_codes and with_codes and role == "assistant":  # only these are targets
        fault = Fault(reason=Reason.BAD_CODES, detail=record.bad_codes, file=record.file)
    codes = record.codes if with_codes else None
    return Turn(
        number=number,
        speaker=str(record.speaker),
        role=role,
        text=record.text,
        audio=clip if isinstance(clip, AudioRef) else None,
        fault=fault,
        codes=None if codes is None else Codes(codec=CODEC.name, values=codes[None]),
    )


def parse_record(record: Any) -> Sequence[text_index.TurnRecord]:
    """The turns of a JSON record of any of the three kinds, each with its fault."""
    if not isinstance(record, dict):
        return [_faulty(f"{reprlib.repr(record)}, expected an object with a conversation")]
    rows = record.get("conversation") or record.get("conversations")
    if "instruction" in record and rows is None:
        rows = [
            {"from": "human", "text": record["instruction"], "speech": _path_of(record, "speech_input")},
            {"from": "gpt", "text": record.get("response"), "speech": _path_of(record, "speech_response")},
        ]
    elif not json_stream.is_text(record.get("id")) or not record["id"].strip():
        fault = _faulty(f"the id {reprlib.repr(record.get('id'))}, expected a string, once")
        return [fault] * (len(rows) if isinstance(rows, list) and rows else 1)
    if not isinstance(rows, list) or not rows:
        keys = reprlib.repr(list(record))
        return [_faulty(f"the keys {keys} without a list of turns, expected one as 'conversation'")]
    if isinstance(record.get("speech"), str) and isinstance(rows[0], dict):  # LLaMA-Omni: one a record
        rows = [{"speech": record["speech"], **rows[0]}, *rows[1:]]
    speakers = [row.get("from") if isinstance(row, dict) else None for row in rows]
    return [_parse_turn(record.get("id"), row, i, speakers) for i, row in enumerate(rows)]


def _faulty(detail: str) -> text_index.TurnRecord:
    return text_index.TurnRecord(reason=Reason.METADATA_DISAGREES, detail=f"found {detail}")


def _path_of(record: Mapping[str, Any], key: str) -> Any:
    """What a record without a conversation has as a path; units alone are none: a list, and so a fault."""
    value = record.get(key)
    return value if value is None or (isinstance(value, str) and turns.is_audio(value)) else [value]


def _parse_turn(name: str | None, row: Any, number: int, speakers: Sequence[Any]) -> text_index.TurnRecord:
    record = row if isinstance(row, dict) else {}
    text, speech, speaker = record.get("text", record.get("value")), record.get("speech"), speakers[number]
    codes, bad_codes = text_index.parse_codes(record.get("unit"), CODEC)
    fault: tuple[Reason, str] | None = None
    if not isinstance(row, dict):
        fault = Reason.BAD_TEXT, f"found {reprlib.repr(row)}, expected a turn of from, text, speech, unit"
    elif (detail := _wrong_speaker(number, speakers)) is not None:
        fault = Reason.BAD_SPEAKER, detail
    elif not json_stream.is_text(text):
        fault = Reason.BAD_TEXT, f"found text {reprlib.repr(text)}, expected a string of UTF-8"
    elif "<speech>" in text:
        detail = f"found {reprlib.repr(text)}, a prompt that names no words, expected what is said"
        fault = Reason.BAD_TEXT, detail
    elif speech and not json_stream.is_text(speech):
        what = "units alone, " if isinstance(speech, list) else ""
        fault = Reason.MISSING, f"found {what}{reprlib.repr(speech)}, expected the path of a WAV"
    is_text = isinstance(text, str) and (fault is None or fault[0] is not Reason.BAD_TEXT)
    return text_index.TurnRecord(
        id=name,
        speaker=speaker if isinstance(speaker, str) else None,
        text=str(text) if is_text else "",
        speech=speech if isinstance(speech, str) and speech else None,
        codes=codes,
        bad_codes=bad_codes,
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


class InstructS2STTT(SpeechBuilder):
    """InstructS2S-200K as training rows."""

    ABOUT = ABOUT
    READER = InstructS2SReader
    BUILDER_CONFIG_CLASS = InstructS2SConfig
    BUILDER_CONFIGS = [InstructS2SConfig(name=name) for name in DIALOGUE_CONFIGS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "ttt"
