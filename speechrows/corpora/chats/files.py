"""The files of a folder that hold chats, as units of so many records each."""

import fnmatch
from codecs import BOM_UTF8
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial

from speechrows.corpora.chats.records import ChatError
from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.corpora.parquet import BrokenFileError
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Unit
from speechrows.corpora.tables.arrays import ArrayTable
from speechrows.corpora.tables.files import split_of_path
from speechrows.corpora.tables.lines import LineTable
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import Table
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.tables.stream import RowStream
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.types import UnreadableFile

_RUN_BYTES = 8 << 20  # of a unit's clips and texts, about
_BEGINNING = 1 << 10  # bytes of a file that tell what it is
_TEXT_BYTES = 1 << 10  # that a record weighs without its clips
_SUFFIXES = (".jsonl", ".ndjson", ".json")

NamesOfClips = Callable[
    [Record], Sequence[str]
]  # that a record names; ChatError where it is none of this kind


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordRun:
    """Records of a file that follow one another; `offset` is where the first begins, in a file of lines.

    `to_end`, it goes on to the file's end. `has_evaluation`, where the data have splits of their own.
    """

    file: TableFile
    rows: range
    offset: int
    to_end: bool
    has_evaluation: bool = False


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
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(file.path, pattern) for file in files):
            known = [file.path for file in files]
            raise UsageError(
                f"--file {pattern}: no file matches; found {', '.join(known[:5]) or 'no JSON'}"
                f"{' and others' if len(known) > 5 else ''}{did_you_mean(pattern, known)}"
            )
    return [f for f in files if not patterns or any(fnmatch.fnmatchcase(f.path, p) for p in patterns)]


def open_file(corpus: Corpus, file: TableFile) -> Table:
    """Open a file of lines or of an array."""
    return ArrayTable(corpus, file) if file.kind == "json" else LineTable(corpus, file)


def list_records(
    names: ClipNames, entries: Sequence[Entry], patterns: Sequence[str], clips: NamesOfClips, what: str
) -> Listing[RecordRun]:
    """The files whose first record is of a kind, as units; `what` says in words which kind that is."""
    sizes = {entry.path: entry.num_bytes for entry in entries}
    files = [_with_kind(names.corpus, file) for file in find_files(entries, patterns)]
    kept = [file for file in files if patterns or _is_of_kind(names.corpus, file, clips)]
    has_evaluation = any(file.split not in (None, "train") for file in kept)
    units = list[Unit[RecordRun]]()
    num_records = 0
    for file in kept:
        runs = _Runs(file, names, sizes, has_evaluation=has_evaluation)
        for record in open_file(names.corpus, file).read((), None):
            if isinstance(record, Record):
                runs.add(record, clips)
                num_records += 1
        units += runs.units()
    others = len(files) - len(kept)
    notes = f" ({others} other file{'s' * (others > 1)} of JSON: not read)" if others else ""
    where = kept[0].path if len(kept) == 1 else f"{len(kept)} files"
    contents = f"{num_records} {what} in {where}{notes}" if kept else f"no file of {what}{notes}"
    return Listing(contents=contents, units=units)


def _with_kind(corpus: Corpus, file: TableFile) -> TableFile:
    """A file as what it begins like: an array, whatever its name ends with, or lines."""
    try:
        with corpus.open_file(corpus.resolve("", file.path)) as opened:
            is_array = opened.read(_BEGINNING).removeprefix(BOM_UTF8).lstrip().startswith(b"[")
    except (OSError, BadClipError):  # said when it is read
        return file
    return replace(file, kind="json") if is_array else file


def _is_of_kind(corpus: Corpus, file: TableFile, clips: NamesOfClips) -> bool:
    """Whether one of a file's first records is of a kind."""
    try:
        for number, record in enumerate(open_file(corpus, file).read((), None)):
            if isinstance(record, Record) and record.fault is None:
                clips(record)
                return True
            if number == 10:
                break
    except (ChatError, BrokenFileError):
        pass
    return False


class _Runs:
    """Gathers a file's records to units."""

    def __init__(
        self, file: TableFile, names: ClipNames, sizes: dict[str, int], *, has_evaluation: bool
    ) -> None:
        self._file, self._names, self._sizes = file, names, sizes
        self._paths = {path: path for path in sizes}  # one string a path, however many records name it
        self._has_evaluation = has_evaluation
        self._begun: list[tuple[int, int, int, list[str]]] = []  # number, offset, bytes, clips

    def add(self, record: Record, clips: NamesOfClips) -> None:
        """Add the next record."""
        if not self._begun or self._begun[-1][2] >= _RUN_BYTES:
            self._begun.append((record.number, record.offset, 0, []))
        number, offset, num_bytes, own = self._begun[-1]
        for path in self._clips(record, clips):
            own.append(path)
            num_bytes += self._sizes[path]
        self._begun[-1] = number, offset, num_bytes + _TEXT_BYTES, own

    def _clips(self, record: Record, clips: NamesOfClips) -> Iterator[str]:
        """The listed clips of a record; what is wrong with others is said when it is read."""
        try:
            cells = [] if record.fault else clips(record)
        except ChatError:
            return
        for cell in cells:
            try:
                path = self._paths.get(self._names.path_of(cell, self._file))
            except BadClipError:
                continue
            if path is not None:
                yield path

    def units(self) -> Iterator[Unit[RecordRun]]:
        """The units; those of an array are one stream."""
        stops = [number for number, *_ in self._begun[1:]] + [ALL.stop]
        for (number, offset, num_bytes, clips), stop in zip(self._begun, stops, strict=True):
            run = RecordRun(
                file=self._file,
                rows=range(number, stop),
                offset=offset,
                to_end=stop == ALL.stop,
                has_evaluation=self._has_evaluation,
            )
            yield Unit(
                payload=run,
                opened=(self._file.path,),
                files=tuple(dict.fromkeys(clips)),
                num_bytes=num_bytes,
                splits=(self._file.split or "train",),
                in_stream=self._file.kind == "json",
            )


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
