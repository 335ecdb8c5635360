"""A table that is one JSON array of objects, read record by record: it may be larger than memory."""

import re
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import islice

from speechrows.corpora import json_stream
from speechrows.corpora.folder import Corpus
from speechrows.corpora.json_stream import Broken
from speechrows.corpora.parquet import BrokenFileError
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import Rows
from speechrows.corpora.tables.records import TableFile
from speechrows.errors import BadClipError
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import UnreadableFile

_LOOKED_AT = 100  # records, for the names of the columns
# A record's first key: not one that objects inside records begin with (role, from, type, path).
_RECORD_START = re.compile(
    rb'\{\s*"(?:id|sample_id|conversation_id|messages|conversations?|audios?|sounds?|system|text)"\s*:'
)


class ArrayTable:
    """The records of an array, numbered from 0; of those that break, the number is that of the next."""

    def __init__(self, corpus: Corpus, file: TableFile) -> None:
        self._corpus, self._file = corpus, file

    def columns(self) -> Mapping[str, bool]:
        """Its columns; none holds clips."""
        names: dict[str, bool] = {}
        for record in islice(self.read((), None), _LOOKED_AT):
            if isinstance(record, Record):
                names |= dict.fromkeys(record.cells, False)
        return names

    def read(
        self,
        names: Sequence[str],  # noqa: ARG002  # a record is read as a whole
        audio: str | None,  # noqa: ARG002  # its cells name clips
        rows: Rows = ALL,
        offset: int = 0,  # noqa: ARG002  # an array is read from its beginning
    ) -> Generator[Record | UnreadableFile]:
        """Read some records."""
        path = self._file.path
        try:
            with self._corpus.open_file(self._corpus.resolve("", path)) as file:
                for number, cells in enumerate(json_stream.read_records(file, _RECORD_START)):
                    if number in rows:
                        yield self._record(number, cells)
        except BadClipError as error:
            raise BrokenFileError(error.detail) from error
        except OSError as error:
            raise BrokenFileError(f"found {error.strerror or error}; expected an array of JSON") from error

    def _record(self, number: int, cells: object) -> Record:
        place = f"{self._file.path}:{number}"
        if isinstance(cells, dict):
            return Record(number, place, cells)
        detail = cells.detail if isinstance(cells, Broken) else f"found {cells!a:.80}, expected an object"
        return Record(number, place, {}, fault=Fault(reason=Reason.UNREADABLE, detail=detail, file=place))
