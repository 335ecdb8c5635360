"""Conversations as lhotse and NeMo read them: cuts of two channels, in SHAR or a manifest beside its clips.

`recording` is what the user says, `custom.target_audio` what the assistant says, each silent where the other
speaks, both of one length. Speakers are called `user` and `agent`: the only pair that every reader of NeMo
takes without being told.
"""

import gzip
import json
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from speechrows.conversations.records import Record
from speechrows.conversations.turns import COLUMNS
from speechrows.conversations.turns import conversations
from speechrows.interop import engine
from speechrows.interop.cuts import ASSISTANT
from speechrows.interop.cuts import USER
from speechrows.interop.cuts import Cut
from speechrows.interop.cuts import CutMaker
from speechrows.interop.options import LhotseOptions
from speechrows.interop.out_folder import STATE
from speechrows.interop.parts import Part
from speechrows.interop.summary import Tally
from speechrows.interop.tar import new_tar
from speechrows.rows.tasks import TASKS

_MAX_ROWS = 20_000  # of a shard
_SIDES = {USER: "user", ASSISTANT: "agent"}  # in names of files


def export(folder: str, out: Path, options: LhotseOptions) -> list[str]:
    """Write `<split>/cuts…`, and the clips beside them; lines that say what was written.

    Raises:
        UsageError: there is no such config, or the folder `out` has other files.
    """
    return engine.export(folder, out, options, cuts_format(options))


def cuts_format(options: LhotseOptions) -> engine.Format:
    """How cuts are written: `<split>/cuts…`, and their clips."""
    return engine.Format(
        name="lhotse",
        write=partial(_write, options),
        finish=_join if options.format == "manifest" else lambda _out, _parts: None,
        columns=COLUMNS,
        max_bytes=options.shard_mb << 20,
        max_rows=_MAX_ROWS,
    )


def _write(options: LhotseOptions, part: Part, records: Iterator[Record], into: Path) -> Tally:
    """Write the cuts of a part; no file where there are none."""
    tally = Tally()
    cuts = _cuts(options, records, part, tally)
    first = next(cuts, None)
    if first is not None:
        with ExitStack() as stack:
            is_shar = options.format == "shar"
            sink = _Shar(into, part, stack, _fields(options, part)) if is_shar else _Files(into, part, stack)
            sink.add(first)
            for cut in cuts:
                sink.add(cut)
    return tally


def _cuts(options: LhotseOptions, records: Iterator[Record], part: Part, tally: Tally) -> Iterator[Cut]:
    maker = CutMaker(gap_s=options.gap, by_turn=options.cuts == "turn", changes=tally.changes)
    for conversation in conversations(records):
        written = 0
        for cut in maker.cuts(conversation, part.name_of(conversation.turns[0].row)):
            yield cut
            written += 1
            tally.turns += len(cut.supervisions)
            tally.seconds += sum(supervision["duration"] for supervision in cut.supervisions)
        tally.conversations += bool(written)


def _fields(options: LhotseOptions, part: Part) -> tuple[str, ...]:
    """The fields that have archives: turns alone have no speech of answers."""
    tasks = {TASKS[piece.shard.task] for piece in part.pieces}
    is_answered = options.cuts == "conversation" or any(task.pairing == "exchange" for task in tasks)
    return (USER, ASSISTANT) if is_answered else (USER,)


class _Shar:
    """A shard: `cuts.000000.jsonl.gz`, `recording.000000.tar`, `target_audio.000000.tar`."""

    def __init__(self, into: Path, part: Part, stack: ExitStack, fields: Sequence[str]) -> None:
        folder, number = into / part.split, f"{part.number:06d}"
        folder.mkdir()
        self._tars = {
            field: stack.enter_context(new_tar(folder / f"{field}.{number}.tar")) for field in fields
        }
        self._lines = stack.enter_context(_new_gzip(folder / f"cuts.{number}.jsonl.gz", stack))

    def add(self, cut: Cut) -> None:
        """Write a cut; the two archives have it at the same place."""
        source = {"type": "shar", "channels": [0], "source": ""}
        recordings = {field: cut.recording(field, source) for field in self._tars}
        for field, tar in self._tars.items():
            channel, recording = cut.channels.get(field), recordings[field]
            if channel is None:
                tar.add(f"{cut.id}.nodata", b"")
                tar.add(f"{cut.id}.nometa", b"")
            else:
                tar.add(f"{cut.id}.flac", channel.flac)
                tar.add(f"{cut.id}.json", _line(recording))
        self._lines.write(_line(cut.record(recordings)))


class _Files:
    """A part of a manifest, whose clips lie in files below its folder."""

    def __init__(self, into: Path, part: Part, stack: ExitStack) -> None:
        self._folder, self._clips = into / part.split, f"audio/{part.name}"
        (self._folder / self._clips).mkdir(parents=True)
        (into / STATE).mkdir()
        self._lines = stack.enter_context((into / STATE / f"{part.name}.jsonl").open("wb"))

    def add(self, cut: Cut) -> None:
        """Write a cut and its clips."""
        recordings = dict[str, Any]()
        for field, channel in cut.channels.items():
            path = f"{self._clips}/{cut.name}-{_SIDES[field]}.flac"
            (self._folder / path).write_bytes(channel.flac)
            recordings[field] = cut.recording(field, {"type": "file", "channels": [0], "source": path})
        self._lines.write(_line(cut.record(recordings)))


def _line(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _new_gzip(path: Path, stack: ExitStack) -> gzip.GzipFile:
    """A compressed file that says neither when nor under which name it was written."""
    return gzip.GzipFile("", "wb", fileobj=stack.enter_context(path.open("wb")), mtime=0)


def _join(out: Path, parts: Sequence[Part]) -> None:
    """Write each split's manifest of the lines of its parts."""
    for split in dict.fromkeys(part.split for part in parts):
        pieces = [out / STATE / f"{part.name}.jsonl" for part in parts if part.split == split]
        unfinished = out / STATE / f"{split}.jsonl.gz"
        with ExitStack() as stack:
            lines = stack.enter_context(_new_gzip(unfinished, stack))
            for piece in filter(Path.exists, pieces):
                lines.write(piece.read_bytes())
        if (out / split).exists():
            unfinished.replace(out / split / "cuts.jsonl.gz")
