"""Lines of supervisions by the runs of recordings that they are of, wherever in their files they stand."""

from bisect import bisect_right
from collections.abc import Mapping
from collections.abc import Sequence

from speechrows.corpora.chats.files import RecordRun
from speechrows.corpora.chats.files import open_file
from speechrows.corpora.cuts.records import is_supervision
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Unit
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
        self.count = 0

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
                self.count += 1
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
        """The lines of a run, by its number."""
        return tuple(self._runs[number].values())

    def lost(self) -> tuple[UnreadableFile, ...]:
        """What can not be read of the files, or belongs to no recording."""
        return tuple(self._lost)
