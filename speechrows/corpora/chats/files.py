"""The files of a folder that hold records of a kind, chats as a rule, as units of so many records each."""

import contextlib
from array import array
from codecs import BOM_UTF8
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from typing import Any
from typing import NamedTuple

import numpy as np

from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.corpora.parquet import BrokenFileError
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Unit
from speechrows.corpora.tables.arrays import ArrayTable
from speechrows.corpora.tables.files import matching
from speechrows.corpora.tables.files import split_of_path
from speechrows.corpora.tables.lines import LineTable
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import KindError
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import Table
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.tables.stream import RowStream
from speechrows.errors import BadClipError
from speechrows.types import UnreadableFile

_RUN_BYTES = 8 << 20  # of a unit's clips and texts, about
_BEGINNING = 1 << 10  # bytes of a file that tell what it is
_TEXT_BYTES = 1 << 10  # that a record weighs without its clips
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz")


class Named(NamedTuple):
    """What a record names: itself, if it has an id, and its clips, each with the share of it that is used."""

    id: str | None
    clips: Sequence[tuple[Any, float]]


Look = Callable[[Record], Named]  # at a record; KindError where it is none of the kind


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordRun:
    """Records of a file that follow one another; `offset` is where the first begins, in a file of lines.

    `to_end`, it goes on to the file's end. `has_evaluation`, where the data have splits of their own.
    `repeats` are those whose id an earlier record of the split has.
    """

    file: TableFile
    rows: range
    offset: int
    to_end: bool
    has_evaluation: bool = False
    repeats: frozenset[int] = frozenset()


def find_files(entries: Sequence[Entry], patterns: Sequence[str]) -> list[TableFile]:
    """The files of JSON of a folder, those alone whose paths match one of the `patterns`, if there are any.

    Raises:
        UsageError: a pattern matches none.
    """
    files = [
        TableFile(path=e.path, num_bytes=e.num_bytes, kind="jsonl", split=split_of_path(e.path))
        for e in entries
        if not e.refused and e.path.endswith(_SUFFIXES)
    ]
    return matching(files, patterns, "--file") if patterns else files


def open_file(corpus: Corpus, file: TableFile) -> Table:
    """Open a file of lines or of an array."""
    return ArrayTable(corpus, file) if file.kind == "json" else LineTable(corpus, file)


def list_records(
    names: ClipNames, entries: Sequence[Entry], patterns: Sequence[str], look: Look, what: str
) -> Listing[RecordRun]:
    """The files whose first record is of a kind, as units; `what` says in words which kind that is."""
    files = [with_kind(names.corpus, file) for file in find_files(entries, patterns)]
    kept = [file for file in files if patterns or is_of_kind(names.corpus, file, look)]
    units, num_records = list_runs(kept, names, entries, look)
    others = len(files) - len(kept)
    notes = f" ({others} other file{'s' * (others > 1)} of JSON: not read)" if others else ""
    where = kept[0].path if len(kept) == 1 else f"{len(kept)} files"
    contents = f"{num_records} {what} in {where}{notes}" if kept else f"no file of {what}{notes}"
    return Listing(contents=contents, units=units)


def list_runs(
    files: Sequence[TableFile],
    names: ClipNames,
    entries: Sequence[Entry],
    look: Look,
    whole: Collection[str] = (),
) -> tuple[list[Unit[RecordRun]], int]:
    """The records of files as units, and how many these are; the files `whole` are a unit each."""
    has_evaluation = any(file.split not in (None, "train") for file in files)
    sizes = {entry.path: entry.num_bytes for entry in entries}
    paths = {path: path for path in sizes}  # one string a path, however many records name it
    listed = [_Runs(file, names, sizes, paths, is_whole=file.path in whole) for file in files]
    for runs in listed:
        try:
            for record in open_file(names.corpus, runs.file).read((), None):
                if isinstance(record, Record):
                    runs.add(record, look)
        except BrokenFileError:  # said when it is read
            continue
    repeats = _repeats(listed)
    units = [unit for runs, own in zip(listed, repeats, strict=True) for unit in runs.units(own)]
    if has_evaluation:
        units = [replace(unit, payload=replace(unit.payload, has_evaluation=True)) for unit in units]
    return units, sum(len(runs.numbers) for runs in listed)


def with_kind(corpus: Corpus, file: TableFile) -> TableFile:
    """A file as what it begins like: an array, whatever its name ends with, or lines."""
    try:
        with corpus.open_file(corpus.resolve("", file.path)) as opened:
            is_array = opened.read(_BEGINNING).removeprefix(BOM_UTF8).lstrip().startswith(b"[")
    except (OSError, BadClipError):  # said when it is read
        return file
    return replace(file, kind="json") if is_array else file


def is_of_kind(corpus: Corpus, file: TableFile, look: Look) -> bool:
    """Whether one of a file's first records is of a kind."""
    try:
        for number, record in enumerate(open_file(corpus, file).read((), None)):
            if isinstance(record, Record) and record.fault is None:
                look(record)
                return True
            if number == 10:
                break
    except (KindError, BrokenFileError):
        pass
    return False


@dataclass(slots=True)
class _Run:
    """A unit that is gathered: where it begins, its clips with how much of each is used, its weight."""

    number: int
    offset: int
    clips: dict[str, float] = field(default_factory=dict[str, float])
    num_bytes: float = 0


class _Runs:
    """Gathers a file's records to units."""

    def __init__(
        self,
        file: TableFile,
        names: ClipNames,
        sizes: Mapping[str, int],
        paths: Mapping[str, str],
        *,
        is_whole: bool,
    ) -> None:
        self.file, self._names, self._sizes, self._paths = file, names, sizes, paths
        self._is_whole = is_whole
        self._begun: list[_Run] = []
        self.numbers, self.ids = array("q"), array("q")  # of every record: its number, its id's hash or 0

    def add(self, record: Record, look: Look) -> None:
        """Add the next record; what is wrong with one is said when it is read."""
        if not self._begun or (self._begun[-1].num_bytes >= _RUN_BYTES and not self._is_whole):
            self._begun.append(_Run(record.number, record.offset))
        named = Named(None, ())
        if record.fault is None:
            with contextlib.suppress(KindError):
                named = look(record)
        self.numbers.append(record.number)
        self.ids.append(hash((self.file.split or "train", named.id)) if named.id else 0)
        run = self._begun[-1]
        run.num_bytes += _TEXT_BYTES
        for cell, share in named.clips:
            try:
                path = self._paths.get(self._names.path_of(cell, self.file))
            except BadClipError:
                continue
            if path is not None:
                run.clips[path] = run.clips.get(path, 0) + share
                run.num_bytes += share * self._sizes[path]

    def units(self, repeats: frozenset[int]) -> Iterator[Unit[RecordRun]]:
        """The units; those of an array are one stream. Recordings that are used in part are not fetched."""
        if not self._begun:  # what is wrong with it is said when it is read
            self._begun.append(_Run(0, 0))
        stops = [run.number for run in self._begun[1:]] + [ALL.stop]
        for begun, stop in zip(self._begun, stops, strict=True):
            rows = range(begun.number, stop)
            run = RecordRun(
                file=self.file,
                rows=rows,
                offset=begun.offset,
                to_end=stop == ALL.stop,
                repeats=frozenset(number for number in repeats if number in rows),
            )
            opened = [path for path, share in begun.clips.items() if share < 1]
            yield Unit(
                payload=run,
                opened=(self.file.path, *opened),
                files=tuple(path for path, share in begun.clips.items() if share >= 1),
                num_bytes=int(begun.num_bytes),
                splits=(self.file.split or "train",),
                in_stream=self.file.kind == "json",
            )


def _repeats(listed: Sequence[_Runs]) -> list[frozenset[int]]:
    """Of each file, the numbers of those records whose id an earlier one has."""
    ids = np.concatenate([np.empty(0, np.int64), *(np.asarray(runs.ids, np.int64) for runs in listed)])
    is_repeat = ids != 0
    is_repeat[np.unique(ids, return_index=True)[1]] = False
    repeats, start = list[frozenset[int]](), 0
    for runs in listed:
        own = is_repeat[start : start + len(runs.ids)]
        repeats.append(frozenset(np.asarray(runs.numbers, np.int64)[own].tolist()))
        start += len(runs.ids)
    return repeats


class RecordStream:
    """Reads runs of records."""

    def __init__(self, corpus: Corpus) -> None:
        self._stream = RowStream(partial(open_file, corpus))

    def read(self, run: RecordRun) -> Iterator[Record | UnreadableFile]:
        """The records of a run, in order; what of the file can not be read is an UnreadableFile."""
        try:
            yield from self._stream.read(run.file, run.rows, run.offset, to_end=run.to_end)
        except BrokenFileError as error:
            yield UnreadableFile(file=run.file.path, detail=str(error))
