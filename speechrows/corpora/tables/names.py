"""Where the clips lie that a table names: beside it, or under --audio-root; never elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from speechrows.corpora.folder import Corpus
from speechrows.corpora.tables.records import TableFile
from speechrows.errors import BadClipError
from speechrows.types import Reason


@dataclass(frozen=True)
class ClipNames:
    """Resolves the names of clips in tables of a corpus; `root` is the folder of it that they are below.

    Where that is None, they are relative to their table.
    """

    corpus: Corpus
    root: str | None = None

    def path_of(self, cell: Any, file: TableFile) -> str:
        """The path of the clip that a cell names: text, or datasets' struct with its path.

        Raises:
            BadClipError: it names none, or one that lies elsewhere.
        """
        name = cell.get("path") if isinstance(cell, dict) else cell
        if not isinstance(name, str) or not name.strip():
            detail = f"found {cell!a:.80} in place of a clip, expected its bytes, or the path of a file"
            raise BadClipError(Reason.MISSING, detail)
        folder = self._folder(file)
        try:
            return self.corpus.resolve(folder, self._inside(name.strip(), folder))
        except BadClipError as error:
            advice = "" if self.root is not None else ". If its folder lies elsewhere, give --audio-root DIR"
            raise BadClipError(error.reason, error.detail + advice) from error

    def listed(self, cell: Any, file: TableFile, paths: Mapping[str, str]) -> str | None:
        """The path of the clip that a cell names, as one of `paths`; None where it is none of them."""
        folder = self._folder(file)
        path = paths.get(f"{folder}/{cell}" if folder else cell) if isinstance(cell, str) else None
        if path is not None:  # as nearly all are: no look at the disk
            return path
        try:
            return paths.get(self.path_of(cell, file))
        except BadClipError:
            return None  # said when the row is read

    def _folder(self, file: TableFile) -> str:
        return file.folder if self.root is None or file.clips else self.root

    def _inside(self, name: str, folder: str) -> str:
        """A path of this machine as one below the folder, where it is in there."""
        place = self.corpus.local_path(folder)
        return name.removeprefix(f"{place.rstrip('/')}/") if place is not None else name
