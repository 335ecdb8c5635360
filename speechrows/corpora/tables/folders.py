"""Folders of clips with a text beside each: `a.wav` and `a.txt` are a row."""

from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence

from speechrows.corpora.entries import basename
from speechrows.corpora.entries import folder_of
from speechrows.corpora.folder import Corpus
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import Rows
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.turns import read_text
from speechrows.errors import BadClipError
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import UnreadableFile

_COLUMNS = ("id", "file", "text", "folder")  # the last is the name of a clip's folder, as a class has it


class FolderTable:
    """The clips of a folder, in the order of their names, from 0."""

    def __init__(self, corpus: Corpus, file: TableFile) -> None:
        self._corpus, self._file = corpus, file

    def columns(self) -> Mapping[str, bool]:
        """A clip's path, its name, its text, and its folder's name."""
        return dict.fromkeys(_COLUMNS, False)

    def read(
        self,
        names: Sequence[str],
        audio: str | None,  # noqa: ARG002  # its cells name clips
        rows: Rows = ALL,
        offset: int = 0,  # noqa: ARG002  # of files of text alone
    ) -> Generator[Record | UnreadableFile]:
        """Read some rows; the texts only where they are asked for."""
        wanted = rows if isinstance(rows, range) else set(rows.tolist())
        for number, path in enumerate(self._file.clips):
            if number not in wanted:
                continue
            cells = {
                "id": path.rpartition(".")[0],
                "file": basename(path),
                "folder": basename(folder_of(path)),
            }
            fault = None
            try:
                if "text" in names:
                    cells["text"] = self._text(text_beside(path))
            except BadClipError as error:
                fault = Fault(reason=error.reason, detail=error.detail, file=path)
            yield Record(number, path, cells, fault=fault)

    def _text(self, path: str) -> str:
        try:
            return read_text(self._corpus, path).strip()
        except FileNotFoundError:
            detail = f"found no {basename(path)} beside it, expected its text"
            raise BadClipError(Reason.EMPTY_TEXT, detail) from None
        except OSError as error:
            raise BadClipError(Reason.UNREADABLE, f"{path}: found {error.strerror}; expected text") from error


def text_beside(clip: str) -> str:
    """The path of a clip's text."""
    return f"{clip.rpartition('.')[0]}.txt"
