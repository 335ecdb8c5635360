"""Conversations as moshi-finetune reads them: stereo WAV, left the assistant, right the user, and words.

`<split>/<split>.jsonl` has a line a conversation, `{"path", "duration"}`, with the path from its folder on.
Beside each WAV lies a JSON of the same name, whose alignments are `[word, [start, end], speaker]`.
moshi-finetune takes every `.jsonl` below a folder for data: there is no other.
"""

import json
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from speechrows.conversations.channels import wav_size
from speechrows.conversations.channels import write_wav
from speechrows.conversations.records import Record
from speechrows.conversations.timeline import UNDECODABLE
from speechrows.conversations.timeline import Timeline
from speechrows.conversations.timeline import count_inexact
from speechrows.conversations.timeline import timeline
from speechrows.conversations.turns import COLUMNS
from speechrows.conversations.turns import conversations
from speechrows.conversations.words import Aligner
from speechrows.conversations.words import Proportional
from speechrows.conversations.words import Word
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.interop import engine
from speechrows.interop.joined import joined
from speechrows.interop.options import MoshiOptions
from speechrows.interop.out_folder import STATE
from speechrows.interop.parts import Part
from speechrows.interop.summary import Tally
from speechrows.types import Role

# Of Moshi's own words it learns; those of others it leaves aside.
_SPEAKER_OF: dict[Role, str] = {"assistant": "SPEAKER_MAIN", "user": "SPEAKER_USER"}
_MAX_BYTES = (1 << 32) - (1 << 20)  # of samples in a WAV, whose sizes have 32 bits
_LEFT_OUT = "conversations left out"


def export(folder: str, out: Path, options: MoshiOptions) -> list[str]:
    """Write `<split>/<split>.jsonl`, and WAVs below `<split>/audio`; lines that say what was written.

    Raises:
        UsageError: there is no such config or model, the folder `out` has other files, or a name that Moshi
            can not be given.
    """
    if any(sign in str(out) for sign in ":,"):
        raise UsageError(
            f"{out}: has a colon or a comma, with which moshi-finetune parts the folders of train_data and "
            "their weights; expected neither. Give another --out"
        )
    write = partial(_write, options, _aligner(options))
    return engine.export(
        folder, out, options, engine.Format(name="moshi", write=write, finish=_finish, columns=COLUMNS)
    )


def _aligner(options: MoshiOptions) -> Aligner:
    if options.aligner == "proportional":
        return Proportional()
    from speechrows.conversations.whisper_words import Whisper  # noqa: PLC0415  # an extra

    return Whisper.of(options.asr_model)


def _write(
    options: MoshiOptions, aligner: Aligner, part: Part, records: Iterator[Record], into: Path
) -> Tally:
    """Write the conversations of a part, and their lines."""
    tally, clips = Tally(), f"audio/{part.name}"
    (into / part.split / clips).mkdir(parents=True)
    (into / STATE).mkdir()
    with (into / STATE / f"{part.name}.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
        for conversation in conversations(records):
            path = f"{clips}/{part.name_of(conversation.turns[0].row)}.wav"
            talk = timeline(conversation.turns, options.gap, tally.changes)
            fault = talk if isinstance(talk, str) else _fault(talk, into / part.split / path)
            if fault is not None or isinstance(talk, str):
                tally.changes[f"{_LEFT_OUT}: {fault}"] += 1
                continue
            words = _words(talk, aligner)
            if options.aligner == "whisper":
                _count_unheard(words, tally.changes)
            beside = (into / part.split / path).with_suffix(".json")
            beside.write_text(
                json.dumps({"alignments": _alignments(talk, words)}, ensure_ascii=False), "utf-8"
            )
            seconds = talk.num_samples / talk.rate_hz
            lines.write(json.dumps({"path": path, "duration": seconds}) + "\n")
            count_inexact(talk.forms, tally.changes)
            tally.changes["system prompts not written"] += conversation.system is not None
            tally.count(len(talk.turns), sum(form.num_samples / form.rate_hz for form in talk.forms))
    return tally


def _fault(talk: Timeline, path: Path) -> str | None:
    """Write the sound of a conversation; where it can not be, why, and there is no file."""
    sides = [talk.channels["assistant"], talk.channels["user"]]
    if not sides[0]:
        return "the assistant says nothing"
    if wav_size(sides, talk.num_samples) > _MAX_BYTES:
        return "longer than a WAV can be"
    try:
        write_wav(path, sides, talk.num_samples, talk.rate_hz)
    except BadClipError:
        path.unlink()
        return UNDECODABLE
    return None


def _words(talk: Timeline, aligner: Aligner) -> list[Sequence[Word]]:
    """The words of each turn."""
    return [
        aligner.words(turn, start, start + form.num_samples / form.rate_hz)
        for turn, start, form in zip(talk.turns, talk.times_s, talk.forms, strict=True)
    ]


def _count_unheard(turns: Sequence[Sequence[Word]], changes: Counter[str]) -> None:
    """Count the words whose times are an estimate."""
    for words in turns:
        num_heard = sum(word.is_heard for word in words)
        if num_heard:
            changes["words that were not heard: timed by their neighbours"] += len(words) - num_heard
        else:
            changes["turns of which no word was heard: timed by letters"] += bool(words)


def _alignments(talk: Timeline, turns: Sequence[Sequence[Word]]) -> list[Any]:
    """The words of both sides by the time at which they begin: Moshi looks for them by halves."""
    words = [
        [word.text, [word.start_s, word.stop_s], _SPEAKER_OF[turn.role]]
        for turn, own in zip(talk.turns, turns, strict=True)
        for word in own
    ]
    return sorted(words, key=lambda word: word[1])


def _finish(out: Path, parts: Sequence[Part]) -> None:
    """Give each split's lines their place."""
    for split, lines in joined(out, parts):
        lines.replace(out / split / f"{split}.jsonl")
