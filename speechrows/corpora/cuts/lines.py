"""Lines of supervisions by the runs of recordings that they are of, wherever in their files they stand."""

import json
import tempfile
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from speechrows.corpora.chats.files import RecordRun
from speechrows.corpora.chats.files import open_file
from speechrows.corpora.cuts.records import is_supervision
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Unit
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import TableFile
from speechrows.types import UnreadableFile


class Lines:
    """Which lines have the supervisions of which run of recordings: the first to the last of them, a file."""

    def __init__(self, runs: Sequence[Unit[RecordRun]], places: Mapping[str, tuple[str, int]]) -> None:
        """`places` are the file and number of each recording, by its id."""
        self._places = places
        self._runs: list[dict[str, RecordRun]] = [{} for _ in runs]  # by file
        self._starts: dict[str, tuple[list[int], list[int]]] = {}  # of a file's runs: where, and which
        for number, unit in enumerate(runs):
            starts, numbers = self._starts.setdefault(unit.payload.file.path, ([], []))
            starts.append(unit.payload.rows.start)
            numbers.append(number)
        self._lost: list[UnreadableFile] = []
        self._counts: Counter[str] = Counter()  # of supervisions, by file

    def add(self, corpus: Corpus, file: TableFile) -> None:
        """Go through a file of supervisions."""
        strays = list[str]()
        for record in open_file(corpus, file).read((), None):
            if isinstance(record, UnreadableFile):
                self._lost.append(record)
            elif record.fault is not None or not is_supervision(record.cells):
                detail = record.fault.detail if record.fault else "found no supervision, expected one"
                self._lost.append(UnreadableFile(file=record.place, detail=detail))
            elif (name := str(record.cells["recording_id"])) in self._places:
                self._counts[file.path] += 1
                self._put(file, record, *self._places[name])
            else:
                strays.append(name)
        if strays:
            detail = (
                f"found {len(strays)} supervisions whose recordings no manifest has, as {strays[0]!a:.200}, "
                "expected each recording in a manifest"
            )
            self._lost.append(UnreadableFile(file=file.path, detail=detail))

    def _put(self, file: TableFile, record: Record, path: str, number: int) -> None:
        starts, numbers = self._starts[path]
        own = self._runs[numbers[bisect_right(starts, number) - 1]]
        run = own.get(file.path)
        rows = range(record.number, record.number + 1)
        own[file.path] = RecordRun(
            file=file,
            rows=rows if run is None else range(run.rows.start, rows.stop),
            offset=record.offset if run is None else run.offset,
            to_end=False,
        )

    def of(self, number: int) -> tuple[RecordRun, ...]:
        """The lines of a run, by its number: of a file where they are scattered, ALL that it has."""
        return tuple(
            replace(run, rows=ALL, offset=0) if path in self._scattered else run
            for path, run in self._runs[number].items()
        )

    @cached_property
    def _scattered(self) -> frozenset[str]:
        """The files of which lines would be read again and again: those of one run stand among others'.

        What is gzipped is read from its beginning wherever a run does not go on where the last ended.
        """
        scattered = set[str]()
        for path, count in self._counts.items():
            runs = [own[path].rows for own in self._runs if path in own]
            if path.endswith(".gz"):
                is_scattered = any(run.start != before.stop for before, run in pairwise(runs))
            else:
                is_scattered = sum(map(len, runs)) > 2 * count
            if is_scattered:
                scattered.add(path)
        return frozenset(scattered)

    @property
    def count(self) -> int:
        """How many supervisions there are."""
        return self._counts.total()

    def lost(self) -> tuple[UnreadableFile, ...]:
        """What can not be read of the files, or belongs to no recording."""
        return tuple(self._lost)


class GatheredLines:
    """The supervisions of a file in which they are scattered, by recording: read once, then kept on disk.

    The disk is a file without a name in the system's temporary folder (TMPDIR).
    """

    def __init__(self, corpus: Corpus, file: TableFile) -> None:
        """Read the file. What of it can not be read was told when it was looked at."""
        self._places: dict[str, array[int]] = {}  # where each of a recording's begins and ends, one by one
        self._kept = tempfile.TemporaryFile(prefix="speechrows-")  # noqa: SIM115  # closed with this object
        end = 0
        for record in open_file(corpus, file).read((), None):
            if isinstance(record, Record) and record.fault is None and is_supervision(record.cells):
                start, end = end, end + self._kept.write(json.dumps(record.cells).encode())
                self._places.setdefault(str(record.cells["recording_id"]), array("q")).extend((start, end))

    def of(self, recording: str) -> list[Any]:
        """The supervisions of a recording, in order."""
        places = iter(self._places.get(recording, ()))
        return [self._line(start, stop) for start, stop in zip(places, places, strict=True)]

    def _line(self, start: int, stop: int) -> Any:
        self._kept.seek(start)
        return json.loads(self._kept.read(stop - start))
