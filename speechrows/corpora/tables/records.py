"""A row of a table, whatever the table's format: what all of them are read as."""

import re
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple
from typing import Protocol

import numpy as np
import numpy.typing as npt

from speechrows.corpora.entries import folder_of
from speechrows.types import AudioRef
from speechrows.types import Fault
from speechrows.types import UnreadableFile

Rows = range | npt.NDArray[np.int64]  # numbers of rows, ascending
ALL = range(1 << 62)
_JSON = re.compile(r"(.+)\.(?:json|jsonl|ndjson)(?:\.gz)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFile:
    """A file that is a table.

    Attributes:
        kind: its format: one of files.FORMATS, or files.FOLDER.
        split: the one that its name, or a folder's, tells; None where none does.
        suffix: what its clips' names end with, where its rows do not say.
        clips: of a folder that is a table, the paths of its clips.
    """

    path: str
    num_bytes: int
    kind: str
    split: str | None = None
    suffix: str = ""
    clips: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """Its path without the name's end: rows without an id are called by it."""
        match = _JSON.fullmatch(self.path)
        return match[1] if match else self.path.removesuffix(f".{self.kind}")

    @property
    def folder(self) -> str:
        """The folder that its clips' names are relative to."""
        return self.path if self.clips else folder_of(self.path)


class KindError(ValueError):
    """A record that is none of the kind that is read: what was found in it, and what was expected."""


class Record(NamedTuple):
    """A row of a table.

    `number` is its row from 0, or of a file of text its line from 0; `place` says where that is. `clip` is
    there where its bytes came along; where they lie elsewhere, the cell of the audio column names them.
    A row that could not be read has a `fault`, and may lack cells. `offset` is where it begins in a text.
    """

    number: int
    place: str
    cells: Mapping[str, Any]
    clip: AudioRef | None = None
    fault: Fault | None = None
    offset: int = 0


class Table(Protocol):
    """A table of any format."""

    def columns(self) -> Mapping[str, bool]:
        """Its columns, and whether each can hold clips, not only name them.

        Raises:
            BrokenFileError: it can not be read.
        """
        ...

    def read(
        self, names: Sequence[str], audio: str | None, rows: Rows = ALL, offset: int = 0
    ) -> Generator[Record | UnreadableFile]:
        """Read the columns `names` of some rows, in order, with the clips of the column `audio`.

        `offset` is that of the first of these rows, where it is known. Columns that the table lacks are left
        out. Where it can not be read on, an UnreadableFile says so.
        """
        ...


def head(table: Table, names: Sequence[str], count: int = 20) -> list[Mapping[str, Any]]:
    """The cells of a table's first rows that could be read."""
    cells: list[Mapping[str, Any]] = []
    for record in table.read(names, None):
        if isinstance(record, Record) and record.fault is None:
            cells.append(record.cells)
        if len(cells) == count:
            break
    return cells
