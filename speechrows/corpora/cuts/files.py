"""The files of a folder that hold cuts, as units: manifests, shards of SHAR, recordings with supervisions."""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from speechrows.corpora.chats.files import Named
from speechrows.corpora.chats.files import RecordRun
from speechrows.corpora.chats.files import RecordStream
from speechrows.corpora.chats.files import find_files
from speechrows.corpora.chats.files import is_of_kind
from speechrows.corpora.chats.files import list_runs
from speechrows.corpora.chats.files import with_kind
from speechrows.corpora.cuts.dialogues import CutPlace
from speechrows.corpora.cuts.lines import GatheredLines
from speechrows.corpora.cuts.lines import Lines
from speechrows.corpora.cuts.records import CutError
from speechrows.corpora.cuts.records import files_of
from speechrows.corpora.cuts.records import is_recording
from speechrows.corpora.cuts.records import is_supervision
from speechrows.corpora.cuts.records import of_recording
from speechrows.corpora.cuts.records import parse_cut
from speechrows.corpora.cuts.shar import Fields
from speechrows.corpora.cuts.shar import Shard
from speechrows.corpora.cuts.shar import shards
from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Unit
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import TableFile
from speechrows.types import UnreadableFile


@dataclass(frozen=True, kw_only=True, slots=True)
class CutRun:
    """Cuts of a file that follow one another.

    `fields` are the other files of a shard of SHAR. Where the records are recordings, `supervisions` are the
    lines that have what is said in them, among others; ALL of a file, where they are scattered. `lost` is
    what is told of the files with this run.
    """

    run: RecordRun
    fields: Fields = field(default_factory=dict[str, str])
    supervisions: tuple[RecordRun, ...] | None = None
    lost: tuple[UnreadableFile, ...] = ()


def list_cuts(names: ClipNames, entries: Sequence[Entry], patterns: Sequence[str]) -> Listing[CutRun]:
    """What a folder holds of cuts. Recordings with supervisions are read where there are no cuts."""
    entries = [entry for entry in entries if not entry.refused]
    by_cuts = shards(entries)
    files = [with_kind(names.corpus, file) for file in find_files(entries, patterns)]
    cuts = [file for file in files if file.path in by_cuts or is_of_kind(names.corpus, file, _look_at_cut)]
    if not cuts:
        return _list_recordings(names, entries, files)
    runs, num_cuts = list_runs(cuts, names, entries, _look_at_cut, whole=by_cuts)
    sizes = {entry.path: entry.num_bytes for entry in entries}
    units = [_unit(unit, by_cuts.get(unit.payload.file.path, {}), sizes) for unit in runs]
    num_shards = sum(file.path in by_cuts for file in cuts)
    where = [f"{num_shards} shards of SHAR"] if num_shards else []
    manifests = [file.path for file in cuts if file.path not in by_cuts]
    where += manifests if len(manifests) == 1 else [f"{len(manifests)} manifests"] if manifests else []
    return Listing(contents=f"{num_cuts} cuts in {' and '.join(where)}", units=units)


def _unit(unit: Unit[RecordRun], fields: Fields, sizes: dict[str, int]) -> Unit[CutRun]:
    """The unit of a run of cuts, with the files of its shard."""
    return Unit(
        payload=CutRun(run=unit.payload, fields=fields),
        opened=(*unit.opened, *fields.values()),
        files=unit.files,
        num_bytes=unit.num_bytes + sum(sizes[path] for path in fields.values()),
        splits=unit.splits,
        in_stream=unit.in_stream,
    )


def _look_at_cut(record: Record) -> Named:
    cut = parse_cut(record.cells)
    clips = list[tuple[Any, float]]()
    for track in cut.tracks:
        if track.recording is not None:
            share = min(1.0, track.seconds / track.recording.seconds) if track.recording.seconds else 1.0
            clips += [(file, share) for file in files_of(track.recording)]
    clips += [(file, 1.0) for file in files_of(cut.target)]
    return Named(cut.name, clips)


def _look_at_recording(record: Record) -> Named:
    if not is_recording(record.cells):
        raise CutError(f"found the keys {', '.join(map(ascii, record.cells))!s:.200}, expected a recording")
    cut = parse_cut(of_recording(record.cells, []))
    return Named(cut.name, [(file, 1.0) for file in files_of(cut.tracks[0].recording)])


def _look_at_supervision(record: Record) -> Named:
    if not is_supervision(record.cells):
        raise CutError(f"found the keys {', '.join(map(ascii, record.cells))!s:.200}, expected a supervision")
    return Named(str(record.cells["recording_id"]), ())


def _list_recordings(
    names: ClipNames, entries: Sequence[Entry], files: Sequence[TableFile]
) -> Listing[CutRun]:
    """The recordings of a folder, each with the lines that have its supervisions."""
    places = dict[str, tuple[str, int]]()

    def look(record: Record) -> Named:
        named = _look_at_recording(record)
        places.setdefault(str(named.id), (record.place.rpartition(":")[0], record.number))
        return named

    recordings = [file for file in files if is_of_kind(names.corpus, file, _look_at_recording)]
    supervisions = [file for file in files if is_of_kind(names.corpus, file, _look_at_supervision)]
    if not recordings or not supervisions:
        contents = f"no cuts, {len(recordings)} files of recordings and {len(supervisions)} of supervisions"
        return Listing(contents=contents, units=[])
    runs, num_recordings = list_runs(recordings, names, entries, look)
    lines = Lines(runs, places)
    for file in supervisions:
        lines.add(names.corpus, file)
    units = [
        replace(
            _unit(unit, {}, {}),
            payload=CutRun(
                run=unit.payload, supervisions=lines.of(number), lost=() if number else lines.lost()
            ),
            opened=(*unit.opened, *(run.file.path for run in lines.of(number))),
        )
        for number, unit in enumerate(runs)
    ]
    contents = f"{num_recordings} recordings with {lines.count} supervisions"
    return Listing(contents=contents, units=units)


class CutStream:
    """Reads runs of cuts, each of which goes on where the last ended, if it does."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus, self._records = corpus, RecordStream(corpus)
        self._supervisions: dict[str, RecordStream] = {}  # by file
        self._gathered: dict[str, GatheredLines] = {}  # of those in which they are scattered

    def read(self, run: CutRun) -> Iterator[CutPlace | UnreadableFile]:
        """The records of a run that are cuts, or should be."""
        yield from run.lost
        shard = Shard(self._corpus, run.fields) if run.fields else None
        records = self._records.read(run.run)
        if run.supervisions is not None:
            records = self._joined([*records], run.supervisions)
        for record in records:
            if isinstance(record, UnreadableFile):
                yield record
            elif record.fault is not None:
                yield UnreadableFile(file=record.place, detail=record.fault.detail)
            elif shard is None:
                yield CutPlace(record=record, run=run.run, clips={})
            else:
                filled, clips = shard.fill(record)
                yield CutPlace(record=filled, run=run.run, clips=clips)
        if shard is not None:
            yield from shard.broken

    def _joined(
        self, records: Sequence[Record | UnreadableFile], runs: Sequence[RecordRun]
    ) -> Iterator[Record | UnreadableFile]:
        """Recordings as cuts, with their supervisions."""
        supervisions: dict[str, list[Any]] = {
            str(record.cells.get("id")): [] for record in records if isinstance(record, Record)
        }
        for run in runs:
            if run.rows == ALL:
                for name, lines in supervisions.items():
                    lines.extend(self._gathered_lines(run.file).of(name))
                continue
            stream = self._supervisions.setdefault(run.file.path, RecordStream(self._corpus))
            for record in stream.read(run):
                if isinstance(record, Record):
                    supervisions.get(str(record.cells.get("recording_id")), []).append(record.cells)
        for record in records:
            if not isinstance(record, Record) or record.fault is not None or not is_recording(record.cells):
                yield record
                continue
            own = supervisions[str(record.cells["id"])]
            yield record._replace(cells=of_recording(record.cells, own))

    def _gathered_lines(self, file: TableFile) -> GatheredLines:
        if file.path not in self._gathered:
            self._gathered[file.path] = GatheredLines(self._corpus, file)
        return self._gathered[file.path]
