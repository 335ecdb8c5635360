"""A publisher's folder, on disk or at any fsspec address (hf://, s3://): list it, read it.

Paths inside a corpus are relative, with forward slashes. File names in a corpus' metadata
(audio_file, segment_audio_path) are resolved inside the folder or refused.
"""

import contextlib
import io
import os
import posixpath
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import BinaryIO
from urllib.parse import unquote

import fsspec
from fsspec.core import url_to_fs

from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import folder_of
from speechrows.errors import BadClipError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.storage.filesystem import LOG_IN
from speechrows.storage.filesystem import absent_here
from speechrows.storage.filesystem import is_refusal
from speechrows.storage.filesystem import open_store
from speechrows.storage.filesystem import stamp_of
from speechrows.storage.retry import retry
from speechrows.types import Reason

_CONNECTIONS = 16  # to a remote store, at most
_REVISION = re.compile(r"@((?:refs/(?:pr|convert)/)?[^/]*)")  # of a Hub repository, after its name


def _is_folder(fs: Any, root: str, address: str) -> bool:
    try:
        return retry(lambda: fs.isdir(root))
    except Exception as error:  # each store has errors of its own
        if is_refusal(error):
            return False
        raise StoreError(f"{address}: the store did not answer ({first_line(error)}); try again") from error


@dataclass(frozen=True)
class Corpus:
    """A corpus folder. `located`, if given, maps paths to where a download manager put the files.

    `folders`, if given, are the only subfolders that are listed: a corpus may be several repositories of
    the Hub.
    """

    root: str
    located: Mapping[str, str] | None = None
    folders: tuple[str, ...] = ()
    _fs: Any = field(default=None, compare=False, repr=False)
    _inside: dict[str, bool] = field(default_factory=dict[str, bool], compare=False, repr=False)
    _fetched: dict[str, bytes] = field(default_factory=dict[str, bytes], compare=False, repr=False)

    @staticmethod
    def open(address: str, folders: tuple[str, ...] = (), flag: str = "--data-dir") -> "Corpus":
        """Open the corpus at a local folder or an fsspec address, or only some folders of it.

        Raises:
            UsageError: there is no such folder; it names the `flag`.
            StoreError: a remote store can not be reached, or did not answer.
        """
        address = os.path.expanduser(address.removeprefix("file://"))  # on disk, symlinks are checked
        if "://" in address:
            fs, root = open_store(address)
            if not folders and not _is_folder(fs, root, address):
                raise UsageError(f"{flag} {address}: no such folder there. {LOG_IN}")
            return Corpus(root=root.rstrip("/"), folders=folders, _fs=fs)
        if not os.path.isdir(address):
            trouble = "is a file" if os.path.exists(address) else absent_here(address)
            raise UsageError(f"{flag} {address}: {trouble}; expected the corpus' own folder")
        corpus = Corpus(root=os.path.realpath(address), folders=folders)
        if corpus.label != corpus.label.encode(errors="ignore").decode():
            raise UsageError(f"{flag} {address}: found a name that is not UTF-8, which rows bear; rename it")
        return corpus

    @property
    def name(self) -> str:
        """The corpus' name: its folder's, or the parent's if the folder is called `data`."""
        return self.label.split("/")[0]

    @property
    def label(self) -> str:
        """The folder's name in rows: `name`, with `/data` after it if the folder is called that."""
        *_, above, last = ("/", *_REVISION.sub("", self.root).split("/"))
        return f"{above}/{last}" if last == "data" and above not in ("", "/") else last

    @property
    def revision(self) -> str | None:
        """The revision in the address of a Hub repository; None if there is none."""
        match = _REVISION.search(self.root) if self._fs is not None and "hf" in self._fs.protocol else None
        return unquote(match[1]) if match else None

    def list(self) -> list[Entry]:
        """List every file, sorted by path, but those whose name, or folder's name, begins with a dot."""
        if self._fs is None:
            folders = [f for f in self.folders or ("",) if os.path.isdir(os.path.join(self.root, f))]
            return sorted(entry for folder in folders for entry in self._walk(folder))
        infos: dict[str, Mapping[str, Any]] = {}
        for folder in self.folders or ("",):
            with contextlib.suppress(FileNotFoundError):
                infos |= self._fs.find(f"{self.root}/{folder}".rstrip("/"), detail=True)
        entries = (self._entry(path, info) for path, info in infos.items())
        return sorted(entry for entry in entries if not entry.path.startswith(".") and "/." not in entry.path)

    def _entry(self, path: str, info: Mapping[str, Any]) -> Entry:
        return Entry(path[len(self.root) + 1 :], int(info["size"] or 0), stamp_of(info))

    def _walk(self, folder: str) -> Iterator[Entry]:
        pending = [folder]  # no recursion: folders may lie in one another without end
        while pending:
            folder = pending.pop()
            with os.scandir(os.path.join(self.root, folder)) as entries:
                for entry in entries:
                    if entry.name.startswith("."):  # what git and download tools keep beside the data
                        continue
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    # os.path, not the entry: a symlink to itself raises there.
                    if entry.is_symlink() and not (os.path.isfile(entry.path) and self._is_inside(path)):
                        yield Entry(path, 0, "symlink", refused=True)
                    elif entry.is_dir():
                        pending.append(path)
                    elif entry.is_file():
                        stat = entry.stat()
                        yield Entry(path, stat.st_size, str(stat.st_mtime_ns))

    def _is_inside(self, path: str) -> bool:
        folder = path.rpartition("/")[0]
        if folder not in self._inside:  # once a folder: every part of the path is checked
            self._inside[folder] = self._leads_inside(folder)
        return self._inside[folder] and (
            not os.path.islink(os.path.join(self.root, path)) or self._leads_inside(path)
        )

    def _leads_inside(self, path: str) -> bool:
        real = os.path.realpath(os.path.join(self.root, path))
        return real == self.root or real.startswith(self.root + os.sep)

    def resolve(self, folder: str, name: str) -> str:
        """Resolve a file name in corpus metadata, which is relative to `folder`, to a path.

        Raises:
            BadClipError: the name is absolute, or leaves the corpus by `..` or by a symlink.
        """
        slashed = name.replace("\\", "/")
        path = posixpath.normpath(posixpath.join(folder, slashed))
        absolute = posixpath.isabs(slashed) or re.match("[A-Za-z]:/", slashed) or "://" in slashed
        if absolute or path == ".." or path.startswith("../"):
            detail = f"found {name!r:.200}, which leads out of the corpus; expected a path inside it"
            raise BadClipError(Reason.REFUSED_PATH, detail)
        if "\0" in name or name != name.encode(errors="ignore").decode():
            detail = f"found {name!r:.200}, expected a name in UTF-8: no file, or no row, can bear this one"
            raise BadClipError(Reason.REFUSED_PATH, detail)
        if self._fs is None and self.located is None and not self._is_inside(path):
            raise BadClipError(
                Reason.REFUSED_PATH,
                f"found {name!r:.200}, a symlink that leads out of the corpus; copy the file in its place",
            )
        return path

    def fetch(self, paths: Iterable[str]) -> None:
        """Read remote files ahead, many in parallel; do nothing on disk.

        They are kept in memory until the next call. A missing file raises only when it is read.
        """
        self._fetched.clear()
        remote = [path for path in dict.fromkeys(paths) if self.local_path(path) is None]
        if remote:
            with ThreadPoolExecutor(_CONNECTIONS) as pool:
                contents = zip(remote, pool.map(self._try_to_read, remote), strict=True)
                self._fetched.update((path, data) for path, data in contents if data is not None)

    def _try_to_read(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def read(self, path: str, most: int | None = None) -> bytes:
        """Read a whole file, of `most` bytes.

        Raises:
            BadClipError: it is larger.
            OSError: it can not be read, FileNotFoundError among them.
            StoreError: a remote store did not answer, after all retries.
        """
        end = None if most is None else most + 1
        place = self.local_path(path)
        if path in self._fetched:
            data = self._fetched[path]
        elif self.located is not None and path not in self.located:
            raise FileNotFoundError(path)
        elif place is None:
            data = self._read_remote(path, end)
        else:
            with open(place, "rb") as file:
                data = file.read(end)
        if most is not None and len(data) > most:
            detail = f"found more than {most >> 20} MiB, expected less in one file; divide it"
            raise BadClipError(Reason.TOO_LARGE, detail)
        return data

    def open_file(self, path: str) -> BinaryIO:
        """Open a file for reading at any offset, for files larger than memory.

        Raises:
            OSError: it can not be opened, FileNotFoundError among them.
        """
        if path in self._fetched:
            return io.BytesIO(self._fetched[path])
        if self.located is not None and path not in self.located:
            raise FileNotFoundError(path)
        place = self.local_path(path)
        if place is not None:
            return open(place, "rb")
        if self.located is None:
            return self._fs.open(f"{self.root}/{path}", "rb")
        fs, place = url_to_fs(self.located[path])
        return fs.open(place, "rb")

    def _read_remote(self, path: str, end: int | None) -> bytes:
        def read() -> bytes:
            if self.located is None:
                return self._fs.cat_file(f"{self.root}/{path}", end=end)
            with fsspec.open(self.located[path], "rb") as file:
                return file.read(end)  # pyright: ignore[reportAttributeAccessIssue]

        try:
            return retry(read)
        except FileNotFoundError:
            raise
        except Exception as error:  # each store has errors of its own
            raise StoreError(
                f"{self.root}/{path}: the store did not answer ({error}). Run the same command again: "
                "finished shards are kept"
            ) from error

    def changed(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
        """Files that are not as they were listed, each with what it is now, in words.

        A remote folder is listed again by one request; a commit of the Hub never, nor what is a copy here.
        """
        if self.located is not None or re.fullmatch("[0-9a-f]{40}", self.revision or ""):
            return
        if self._fs is not None:
            self._fs.invalidate_cache()
        by_folder: dict[str, list[Entry]] = {}
        for entry in entries:
            if not entry.refused:
                by_folder.setdefault(folder_of(entry.path), []).append(entry)
        for folder, files in by_folder.items():
            now = self._now(folder, files)
            for file in files:
                if now.get(file.path) != file.content:
                    yield file, now.get(file.path, "none")

    def _now(self, folder: str, files: Iterable[Entry]) -> dict[str, str]:
        """Files of a folder as they are now, in words, by path."""
        if self._fs is not None:
            infos = self._fs.find(f"{self.root}/{folder}".rstrip("/"), maxdepth=1, detail=True)
            return {file.path: file.content for file in map(self._entry, infos, infos.values())}
        now: dict[str, str] = {}
        for file in files:
            with contextlib.suppress(OSError):
                stat = os.stat(os.path.join(self.root, file.path))
                now[file.path] = Entry(file.path, stat.st_size, str(stat.st_mtime_ns)).content
        return now

    def address(self, path: str) -> str:
        """The fsspec address of a file, for a download manager."""
        return self._fs.unstrip_protocol(f"{self.root}/{path}") if self._fs else f"{self.root}/{path}"

    def local_path(self, path: str) -> str | None:
        """The path of a file on this machine; None if it is remote."""
        if self.located is not None:
            place = self.located.get(path)
            return place if place is not None and "://" not in place else None
        return None if self._fs is not None else os.path.join(self.root, path)
