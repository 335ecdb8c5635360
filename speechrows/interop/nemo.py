"""Rows as NeMo reads them, with an input_cfg: chats, whole conversations in two channels, or as they are.

Chats are what SALM reads as multimodal_conversation: JSON lines, and their clips.
`<split>.jsonl` with its clips below audio/, or, with archives, `<split>/manifest_0.jsonl` and
`<split>/audio_0.tar` and so on; `<split>.yaml` is the input_cfg of a split. NeMo tells clips apart by the
stems of their names, joins turns of one side with a space, and learns nothing of a conversation that ends
with the user's turn.
"""

import json
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from speechrows.conversations.channels import PlacedClip
from speechrows.conversations.channels import flac_of
from speechrows.conversations.channels import form_of
from speechrows.conversations.records import Record
from speechrows.conversations.records import Sound
from speechrows.conversations.timeline import UNDECODABLE
from speechrows.conversations.turns import COLUMNS
from speechrows.conversations.turns import SpokenTurn
from speechrows.conversations.turns import answered
from speechrows.conversations.turns import conversations
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.interop import engine
from speechrows.interop.input_cfg import EXPORT_ROOT
from speechrows.interop.input_cfg import refuse_braces
from speechrows.interop.input_cfg import write_input_cfg
from speechrows.interop.joined import joined
from speechrows.interop.lhotse import cuts_format
from speechrows.interop.nemo_rows import rows_format
from speechrows.interop.options import LhotseOptions
from speechrows.interop.options import NemoOptions
from speechrows.interop.out_folder import STATE
from speechrows.interop.parts import Part
from speechrows.interop.summary import Tally
from speechrows.interop.tar import new_tar
from speechrows.types import AUDIO_TOKEN

_MAX_ROWS = 5000  # of a part, whose clips lie in one folder

NemoTurn = dict[str, Any]  # a turn as NeMo has it
Clips = dict[str, bytes | memoryview]  # by name, in the order of turns


def export(folder: str, out: Path, options: NemoOptions) -> list[str]:
    """Write conversations, their clips, and `<split>.yaml`; lines that say what was written.

    Raises:
        UsageError: there is no such config, the folder `out` has other files, a name that NeMo does not
            find, or a flag of another form.
    """
    refuse_braces(out)
    for flag, is_given in {"--tar": options.tar, "--transcripts": options.transcripts}.items():
        if is_given and options.form != "conversations":
            raise UsageError(
                f"{flag}: is of --form conversations, found --form {options.form}; give one of them"
            )
    if options.form == "rows":
        return engine.export(folder, out, options, rows_format(folder, options))
    if options.form == "duplex":
        cuts = cuts_format(LhotseOptions(gap=options.gap, shard_mb=options.shard_mb))
        return engine.export(folder, out, options, replace(cuts, name="nemo", finish=_finish_duplex))
    fmt = engine.Format(
        name="nemo",
        write=partial(_write_shard if options.tar else _write_files, options),
        finish=partial(_finish, options),
        columns=COLUMNS,
        max_bytes=options.shard_mb << 20,
        max_rows=_MAX_ROWS,
    )
    return engine.export(folder, out, options, fmt)


def _write_files(options: NemoOptions, part: Part, records: Iterator[Record], into: Path) -> Tally:
    """Write the clips of a part as files, and the lines of its conversations."""
    folder = f"audio/{part.name}"
    (into / folder).mkdir(parents=True)
    (into / STATE).mkdir()
    return _write(
        options,
        part,
        records,
        lines=into / STATE / f"{part.name}.jsonl",
        folder=f"{folder}/",
        add=lambda name, data: (into / name).write_bytes(data),
    )


def _write_shard(options: NemoOptions, part: Part, records: Iterator[Record], into: Path) -> Tally:
    """Write the archive of a part, and the manifest that names its members in their order."""
    (into / part.split).mkdir()
    lines = into / part.split / f"manifest_{part.number}.jsonl"
    with new_tar(into / part.split / f"audio_{part.number}.tar") as shard:
        return _write(options, part, records, lines=lines, folder="", add=shard.add)


def _write(
    options: NemoOptions,
    part: Part,
    records: Iterator[Record],
    *,
    lines: Path,
    folder: str,
    add: Callable[[str, bytes | memoryview], object],
) -> Tally:
    """Write the lines of conversations; `add` takes the name of each clip, and its bytes."""
    tally = Tally()
    with lines.open("w", encoding="utf-8", newline="\n") as file:
        for conversation in conversations(records):
            turns, clips = answered(conversation, tally.changes), Clips()
            try:
                nemo_turns = [
                    own
                    for turn in turns
                    for own in _nemo_turns(turn, part, folder, clips, options, tally.changes)
                ]
            except BadClipError:
                tally.changes[f"conversations left out: {UNDECODABLE}"] += 1
                continue
            if not nemo_turns:
                continue
            if conversation.system is not None:
                nemo_turns.insert(0, {"from": "System", "type": "text", "value": conversation.system})
            record = {"id": conversation.id, "conversations": nemo_turns}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            for name, data in clips.items():
                add(name, data)
            tally.count(len(turns), sum(turn.seconds for turn in turns if turn.role == "user"))
    return tally


def _nemo_turns(
    turn: SpokenTurn, part: Part, folder: str, clips: Clips, options: NemoOptions, changes: Counter[str]
) -> Iterator[NemoTurn]:
    """A turn as NeMo has it: words, or the user's clip with the words that were written around it.

    Raises:
        BadClipError: the clip does not decode.
    """
    if turn.role == "assistant" or turn.clip is None:
        changes["answers' clips not written"] += turn.clip is not None
        yield from _words(turn, turn.message)
        return
    data, extension = _mono(turn.clip, changes)
    name = f"{folder}{part.name_of(turn.row)}.{extension}"
    clips[name] = data
    before, after = (words.strip() for words in turn.message.split(AUDIO_TOKEN, 1))
    read_back = " ".join(filter(None, (before, AUDIO_TOKEN, after)))
    changes["messages that NeMo joins by a space, where they have another, or none"] += (
        read_back != turn.message
    )
    yield from _words(turn, before)
    clip: NemoTurn = {"from": "User", "type": "audio", "value": name, "duration": turn.seconds}
    yield clip | ({"text": turn.text} if turn.text else {})
    if options.transcripts:
        yield from _words(turn, turn.text)
    yield from _words(turn, after)


def _words(turn: SpokenTurn, text: str) -> Iterator[NemoTurn]:
    if text or turn.role == "assistant":
        yield {"from": turn.role.title(), "type": "text", "value": text}


def _mono(clip: Sound, changes: Counter[str]) -> tuple[bytes | memoryview, str]:
    """The bytes of a clip, and what its name ends with: NeMo reads clips of one channel."""
    form = form_of(clip)
    if form.num_channels == 1:
        return clip.data, clip.extension
    changes["clips of several channels: averaged"] += 1
    return flac_of([PlacedClip(clip=clip, form=form, first=0)], form.num_samples, form.rate_hz), "flac"


def _finish(options: NemoOptions, out: Path, parts: Sequence[Part]) -> None:
    """Give each split's lines their place, and write its input_cfg."""
    if options.tar:
        counts = Counter(part.split for part in parts)
        for split, count in counts.items():
            numbers = f"_OP_0..{count - 1}_CL_"
            _write_chats_cfg(
                out,
                split,
                manifest_filepath=f"{EXPORT_ROOT}/{split}/manifest_{numbers}.jsonl",
                tarred_audio_filepaths=f"{EXPORT_ROOT}/{split}/audio_{numbers}.tar",
            )
        return
    for split, lines in joined(out, parts):
        lines.replace(out / f"{split}.jsonl")
        _write_chats_cfg(out, split, manifest_filepath=f"{EXPORT_ROOT}/{split}.jsonl")


def _write_chats_cfg(out: Path, split: str, **paths: str) -> None:
    write_input_cfg(out, split, {"type": "multimodal_conversation", **paths})


def _finish_duplex(out: Path, parts: Sequence[Part]) -> None:
    """Write the input_cfg of each split that has cuts."""
    for split in dict.fromkeys(part.split for part in parts):
        if (out / split).is_dir():
            write_input_cfg(out, split, {"type": "lhotse_shar", "shar_path": f"{EXPORT_ROOT}/{split}"})
