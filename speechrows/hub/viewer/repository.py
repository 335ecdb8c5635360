"""A dataset on disk or on the Hub: its files, read by ranges that are counted."""

import re
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from fsspec.utils import glob_translate

from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.storage.filesystem import LOG_IN
from speechrows.storage.filesystem import absent_here
from speechrows.storage.filesystem import check_link
from speechrows.storage.filesystem import is_local
from speechrows.storage.filesystem import is_refusal
from speechrows.storage.filesystem import locate
from speechrows.storage.parquet_file import AHEAD


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A folder or a Hub dataset: `files` are the bytes of each by path."""

    address: str
    root: str
    fs: Any
    files: dict[str, int]
    _read: list[int] = field(default_factory=list[int], repr=False)  # bytes of every read

    @staticmethod
    def open(address: str) -> "Repository":
        """The folder at a path or fsspec address, or the Hub dataset `org/name`.

        Raises:
            UsageError: there is none.
            StoreError: a remote store did not answer.
        """
        fs, root = locate(address)
        try:
            fs.invalidate_cache()  # what was not there may be there now
            entries = fs.find(root, detail=True)
        except Exception as error:
            if not is_refusal(error):
                raise StoreError(
                    f"{address}: the store did not answer ({first_line(error)}); try again"
                ) from error
            here = "" if "://" in address else f"{absent_here(address)}, and "
            raise UsageError(f"{address}: {here}no such dataset on the Hub. {LOG_IN}") from error
        files = {path[len(root) :].strip("/"): int(info["size"] or 0) for path, info in entries.items()}
        files = {path: size for path, size in files.items() if not path.startswith(".")}
        if not files:
            raise UsageError(f"{address}: holds no file; expected a built folder, or a dataset of the Hub")
        return Repository(address=address, root=root.rstrip("/"), fs=fs, files=files)

    @property
    def name(self) -> str:
        """The last component of its address: what a loading script would be called."""
        return self.root.rpartition("/")[2].partition("@")[0]

    @property
    def is_local(self) -> bool:
        """True for a folder on this machine."""
        return is_local(self.fs)

    @property
    def num_bytes(self) -> int:
        """The bytes of all files."""
        return sum(self.files.values())

    @property
    def num_bytes_read(self) -> int:
        """The bytes read so far, those read ahead included."""
        return sum(self._read)

    def read(self, path: str) -> bytes:
        """Read a small file whole."""
        data: bytes = self.fs.cat_file(self._place(path))
        self._read.append(len(data))
        return data

    def open_file(self, path: str) -> Any:
        """Open a file for seeking and reading."""
        file = self.fs.open(self._place(path), "rb", block_size=AHEAD)
        cache = getattr(file, "cache", None)
        if cache is None:
            return _Counted(file, self._read)
        fetch = cache.fetcher

        def counted(start: int, stop: int) -> bytes:
            data: bytes = fetch(start, stop)
            self._read.append(len(data))
            return data

        cache.fetcher = counted
        return file

    def _place(self, path: str) -> str:
        if self.is_local:
            check_link(self.root, path, self.address)
        return f"{self.root}/{path}"

    def matching(self, pattern: str) -> list[str]:
        """Return the files that a pattern of the card matches, as datasets resolves it, sorted."""
        expression = re.compile(glob_translate(pattern.removeprefix("./")))
        return sorted(path for path in self.files if expression.match(path))


class _Counted:
    """A file on disk whose reads are counted."""

    def __init__(self, file: Any, read: list[int]) -> None:
        self._file = file
        self._read = read

    def read(self, *size: int) -> bytes:
        data: bytes = self._file.read(*size)
        self._read.append(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Counted":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
