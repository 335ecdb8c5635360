"""Tables of text, a row a line: JSON lines, cells apart by commas or tabs, LibriSpeech's transcripts."""

import csv
import gzip
import io
import itertools
import zlib
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any
from typing import BinaryIO
from typing import NamedTuple
from typing import cast

from speechrows.corpora.folder import Corpus
from speechrows.corpora.parquet import BrokenFileError
from speechrows.corpora.parquet import broken
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import Rows
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.turns import MAX_TEXT_BYTES
from speechrows.corpora.turns import parse_json
from speechrows.errors import BadClipError
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import UnreadableFile

_LOOKED_AT = 100  # rows of a file of JSON, for the names of its columns
_MOST_LINES = 1000  # of a row of cells in quotes: a quote that nothing closes takes no more with it
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class _Line(NamedTuple):
    number: int
    offset: int
    text: str  # bytes that are no UTF-8 are lone surrogates: they cost their own row
    is_too_long: bool = False


class _Lines:
    """The lines of a file from where it stands, which can be put back."""

    def __init__(self, file: BinaryIO, number: int) -> None:
        self._file, self._number, self._offset = file, number, file.tell()
        self._returned: deque[_Line] = deque()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> _Line:
        if self._returned:
            return self._returned.popleft()
        line = self._file.readline(MAX_TEXT_BYTES + 1)
        if not line:
            raise StopIteration
        number, offset, is_too_long = self._number, self._offset, len(line) > MAX_TEXT_BYTES
        rest, size = line, len(line)
        while is_too_long and rest and not rest.endswith(b"\n"):
            rest = self._file.readline(MAX_TEXT_BYTES + 1)
            size += len(rest)
        self._number, self._offset = number + 1, offset + size
        text = line.removeprefix(BOM_UTF8).rstrip(b"\r\n").decode(errors="surrogateescape")
        return _Line(number, offset, "" if is_too_long else text, is_too_long)

    def put_back(self, lines: Sequence[_Line]) -> None:
        """Have lines come again, next."""
        self._returned.extendleft(reversed(lines))


def unpacked(file: BinaryIO, path: str) -> BinaryIO:
    """An open file as it was before it was gzipped, if it was: its name ends with .gz."""
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if path.endswith(".gz") else file


class LineTable:
    """A table of text, gzipped or not.

    Rows are numbered as lines are, from 0: a row of several lines by its first.
    """

    def __init__(self, corpus: Corpus, file: TableFile) -> None:
        self._corpus, self._file = corpus, file
        self._heading: tuple[tuple[str, ...], str] | None = None  # names of cells, and what is between them

    def columns(self) -> Mapping[str, bool]:
        """Its columns; none holds clips."""
        if self._file.kind in ("csv", "tsv"):
            return dict.fromkeys(self._names()[0], False)
        names: dict[str, bool] = {}
        for record in itertools.islice(self._open(()), _LOOKED_AT):
            names |= dict.fromkeys(record.cells, False)
        return names

    def read(
        self,
        names: Sequence[str],
        audio: str | None,  # noqa: ARG002  # its cells name clips
        rows: Rows = ALL,
        offset: int = 0,
    ) -> Generator[Record | UnreadableFile]:
        """Read some rows."""
        wanted = rows if isinstance(rows, range) else set(rows.tolist())
        last = rows[-1]
        try:
            for record in self._open(names, int(rows[0]) if offset else 0, offset):
                if record.number in wanted:
                    yield record
                if record.number >= last:
                    return
        except BrokenFileError as error:
            yield UnreadableFile(file=self._file.path, detail=str(error))

    def _open(self, names: Sequence[str], number: int = 0, offset: int = 0) -> Iterator[Record]:
        """Every row from a place on, with some of its cells; all, where `names` is empty."""
        kind = self._file.kind
        heading = self._names() if kind in ("csv", "tsv") else None
        with self._opened() as file:
            file.seek(offset)
            lines = _Lines(file, number)
            if heading is None:
                yield from map(self._transcript if kind == "trans.txt" else self._json, self._filled(lines))
                return
            if not offset:
                next(lines, None)  # the names
            yield from self._rows_of_cells(lines, heading[0], heading[1], set(names) or {*heading[0]})

    @contextmanager
    def _opened(self) -> Generator[BinaryIO]:
        """The file. What goes wrong while it is read is a BrokenFileError, or the store's own."""
        corpus, path = self._corpus, self._file.path
        try:
            with corpus.open_file(corpus.resolve("", path)) as packed:
                file = unpacked(packed, path)
                # fsspec's files know no readline of so many bytes.
                is_plain = file is not packed or corpus.local_path(path) is not None
                yield file if is_plain else io.BufferedReader(cast(Any, file))
        except (BadClipError, OSError, EOFError, zlib.error) as error:
            raise broken(corpus, path, error, "lines of text") from error

    @staticmethod
    def _filled(lines: _Lines) -> Iterator[_Line]:
        return (line for line in lines if line.is_too_long or line.text.strip())

    def _fault(self, line: _Line, detail: str) -> Record:
        place = f"{self._file.path}:{line.number + 1}"
        fault = Fault(reason=Reason.UNREADABLE, detail=detail, file=place)
        return Record(line.number, place, {}, fault=fault, offset=line.offset)

    def _record(self, line: _Line, cells: Mapping[str, Any]) -> Record:
        return Record(line.number, f"{self._file.path}:{line.number + 1}", cells, offset=line.offset)

    def _json(self, line: _Line) -> Record:
        if line.is_too_long:
            return self._fault(line, f"found a line of more than {MAX_TEXT_BYTES >> 20} MiB, expected a row")
        try:
            cells = parse_json(line.text)
        except (ValueError, RecursionError) as error:
            return self._fault(line, f"found {error!s:.200}; expected a JSON object in a line")
        if not isinstance(cells, dict):
            return self._fault(line, f"found {line.text!a:.80}, expected a JSON object in a line")
        return self._record(line, cells)

    def _transcript(self, line: _Line) -> Record:
        """A line of LibriSpeech's transcripts: an id, which its clip is named by, and a text."""
        name, _, text = line.text.strip().partition(" ")
        cells = {
            "id": name,
            "text": text,
            "speaker": name.partition("-")[0],
            "file": name + self._file.suffix,
        }
        return self._record(line, cells)

    def _names(self) -> tuple[tuple[str, ...], str]:
        """The names of a table's cells, and what stands between them."""
        if self._heading is None:
            with self._opened() as file:
                line = next(_Lines(file, 0), _Line(0, 0, ""))
                file.seek(0)
                is_utf_16 = file.read(2) in _UTF_16
            if is_utf_16:
                raise BrokenFileError("found UTF-16, expected UTF-8; save the table as UTF-8")
            delimiter = "\t" if self._file.kind == "tsv" else max(",;\t|", key=line.text.count)
            names = tuple(name.strip() for name in next(csv.reader([line.text], delimiter=delimiter), []))
            self._heading = names, delimiter
        return self._heading

    def _rows_of_cells(
        self, lines: _Lines, names: Sequence[str], delimiter: str, wanted: set[str]
    ) -> Iterator[Record]:
        kept = [(i, name) for i, name in enumerate(names) if name in wanted]
        for line in self._filled(lines):
            cells = None if line.is_too_long else _cells(line, lines, len(names), delimiter)
            if cells is None:
                detail = f"found {line.text!a:.80}, expected {len(names)} cells: {', '.join(names)!s:.200}"
                yield self._fault(line, detail)
            elif any(cells):
                yield self._record(line, {name: cells[i] for i, name in kept})


def _cells(line: _Line, lines: _Lines, count: int, delimiter: str) -> list[str] | None:
    """The cells of the row that a line begins; None where it has not `count` of them.

    What stands between tabs is taken as it is, but for a cell that is in quotes as a whole: texts hold quotes
    more often than tabs. Between commas a quote encloses, as csv writes it, unless nothing closes it.
    """
    cells = line.text.split(delimiter)
    if '"' not in line.text:
        return cells if len(cells) == count else None
    if delimiter == "\t" and len(cells) == count and _is_whole(cells, lines):
        return [_unquoted(cell) for cell in cells]
    row, others = _quoted(line, lines, delimiter)
    if row is not None and len(row) == count:
        return row
    lines.put_back(others)
    if len(cells) == count:
        return [_unquoted(cell) for cell in cells]
    return None


def _quoted(line: _Line, lines: _Lines, delimiter: str) -> tuple[list[str] | None, list[_Line]]:
    """The cells of a row whose quotes may enclose line feeds, None where one stays open; its other lines."""
    others: list[_Line] = []

    def texts() -> Iterator[str]:
        yield line.text + "\n"
        for other in itertools.islice(lines, _MOST_LINES):
            others.append(other)
            yield other.text + "\n"

    try:
        return next(csv.reader(texts(), delimiter=delimiter, strict=True), None), others
    except csv.Error:
        return None, others


def _is_whole(cells: Sequence[str], lines: _Lines) -> bool:
    """Whether cells apart by tabs are a row: none of them goes on in the next line, which is a row itself."""
    if all(not cell.startswith('"') or cell.count('"') % 2 == 0 for cell in cells):
        return True
    following = next(lines, None)
    if following is not None:
        lines.put_back([following])
    return following is None or following.text.count("\t") == len(cells) - 1


def _unquoted(cell: str) -> str:
    is_quoted = len(cell) > 1 and cell.startswith('"') and cell.endswith('"')
    inner = cell[1:-1]
    return inner.replace('""', '"') if is_quoted and '"' not in inner.replace('""', "") else cell
