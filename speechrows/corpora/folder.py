"""A publisher's folder, on disk or behind any fsspec address (hf://, s3://): list it, read it.

Paths inside a corpus are relative, with forward slashes. Names that come out of a corpus'
own files (audio_file, segment_audio_path) are resolved inside the folder or refused.
"""

import contextlib
import hashlib
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
from typing import NamedTuple
from urllib.parse import unquote

import fsspec
from fsspec.core import url_to_fs

from speechrows.errors import BadClipError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.storage.retry import retry
from speechrows.types import Reason

_CONNECTIONS = 16  # at once, to a remote store
_REVISION = re.compile(r"@((?:refs/(?:pr|convert)/)?[^/]*)")  # of a Hub repository, behind its name


class Entry(NamedTuple):
    """A file of a corpus, or a symlink that is not followed (to a folder, out of the corpus, to nothing).

    `stamp` changes when the content does: a modification time, or the blob id of a remote store.
    """

    path: str
    num_bytes: int
    stamp: str
    refused: bool = False


@dataclass(frozen=True)
class Corpus:
    """A corpus folder. `located`, when given, maps paths to where a download manager put them.

    `folders`, when given, are the only ones of it that are looked at: a corpus may be several
    repositories of the Hub.
    """

    root: str
    located: Mapping[str, str] | None = None
    folders: tuple[str, ...] = ()
    _fs: Any = field(default=None, compare=False, repr=False)
    _inside: dict[str, bool] = field(default_factory=dict[str, bool], compare=False, repr=False)
    _held: dict[str, bytes] = field(default_factory=dict[str, bytes], compare=False, repr=False)

    @staticmethod
    def open(address: str, folders: tuple[str, ...] = ()) -> "Corpus":
        """The corpus at a local folder or an fsspec address, or only some folders of it.

        Raises:
            UsageError: there is no such folder.
        """
        address = address.removeprefix("file://")  # on disk, symlinks are looked at
        if "://" in address:
            fs, root = url_to_fs(address)
            if not folders and not fs.isdir(root):
                raise UsageError(f"--data-dir {address}: no such folder there")
            return Corpus(root=root.rstrip("/"), folders=folders, _fs=fs)
        if not os.path.isdir(address):
            raise UsageError(f"--data-dir {address}: no such folder; expected the corpus' own")
        return Corpus(root=os.path.realpath(address), folders=folders)

    @property
    def name(self) -> str:
        """The corpus' name: its folder's, the parent's where that is called `data`."""
        return self.label.split("/")[0]

    @property
    def label(self) -> str:
        """What rows call the folder: its name, with `/data` behind it where it is that."""
        *_, above, last = ("/", *_REVISION.sub("", self.root).split("/"))
        return f"{above}/{last}" if last == "data" and above not in ("", "/") else last

    @property
    def revision(self) -> str | None:
        """The revision of a Hub repository that its address names, None where it names none."""
        told = _REVISION.search(self.root) if self._fs is not None and "hf" in self._fs.protocol else None
        return unquote(told[1]) if told else None

    def list(self) -> list[Entry]:
        """Every file, sorted by path; not those whose name, or folder's, begins with a dot."""
        if self._fs is None:
            there = [f for f in self.folders if os.path.isdir(os.path.join(self.root, f))]
            return sorted(
                entry for folder in (there if self.folders else [""]) for entry in self._walk(folder)
            )
        found: dict[str, Mapping[str, Any]] = {}
        for folder in self.folders or ("",):
            with contextlib.suppress(FileNotFoundError):
                found |= self._fs.find(f"{self.root}/{folder}".rstrip("/"), detail=True)
        cut = len(self.root) + 1
        return sorted(
            Entry(path[cut:], int(info["size"] or 0), _stamp(info))
            for path, info in found.items()
            if not path[cut:].startswith(".") and "/." not in path[cut:]
        )

    def _walk(self, folder: str) -> Iterator[Entry]:
        with os.scandir(os.path.join(self.root, folder)) as entries:
            for entry in entries:
                if entry.name.startswith("."):  # what git and download tools keep beside the data
                    continue
                path = f"{folder}/{entry.name}" if folder else entry.name
                # os.path, not the entry: a symlink to itself raises there.
                if entry.is_symlink() and not (os.path.isfile(entry.path) and self._is_inside(path)):
                    yield Entry(path, 0, "symlink", refused=True)
                elif entry.is_dir():
                    yield from self._walk(path)
                elif entry.is_file():
                    stat = entry.stat()
                    yield Entry(path, stat.st_size, str(stat.st_mtime_ns))

    def _is_inside(self, path: str) -> bool:
        folder = path.rpartition("/")[0]
        if folder not in self._inside:  # asked once a folder: it is a look at every part of the path
            self._inside[folder] = self._leads_inside(folder)
        return self._inside[folder] and (
            not os.path.islink(os.path.join(self.root, path)) or self._leads_inside(path)
        )

    def _leads_inside(self, path: str) -> bool:
        real = os.path.realpath(os.path.join(self.root, path))
        return real == self.root or real.startswith(self.root + os.sep)

    def resolve(self, folder: str, name: str) -> str:
        """The path of a file that corpus metadata names, relative to `folder`.

        Raises:
            BadClipError: the name is absolute, or leaves the corpus by `..` or by a symlink.
        """
        told = name.replace("\\", "/")
        path = posixpath.normpath(posixpath.join(folder, told))
        absolute = posixpath.isabs(told) or re.match("[A-Za-z]:/", told) or "://" in told
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
        """Read files ahead, many at once, where each costs a round trip; on disk, do nothing.

        They are held until the next call. What can not be read raises when it is asked for.
        """
        self._held.clear()
        remote = [path for path in dict.fromkeys(paths) if self.local_path(path) is None]
        if remote:
            with ThreadPoolExecutor(_CONNECTIONS) as pool:
                found = zip(remote, pool.map(self._try_to_read, remote), strict=True)
                self._held.update((path, data) for path, data in found if data is not None)

    def _try_to_read(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def read(self, path: str) -> bytes:
        """The whole of a file.

        Raises:
            OSError: it can not be read, FileNotFoundError among them.
            StoreError: a remote store did not answer, asked again and again.
        """
        if path in self._held:
            return self._held[path]
        if self.located is not None and path not in self.located:
            raise FileNotFoundError(path)
        place = self.local_path(path)
        if place is None:
            return self._read_remote(path)
        with open(place, "rb") as file:
            return file.read()

    def open_file(self, path: str) -> BinaryIO:
        """A file, for reading at any place: what is larger than memory.

        Raises:
            OSError: it can not be opened, FileNotFoundError among them.
        """
        if self.located is not None and path not in self.located:
            raise FileNotFoundError(path)
        place = self.local_path(path)
        if place is not None:
            return open(place, "rb")
        if self.located is None:
            return self._fs.open(f"{self.root}/{path}", "rb")
        fs, place = url_to_fs(self.located[path])
        return fs.open(place, "rb")

    def _read_remote(self, path: str) -> bytes:
        def read() -> bytes:
            if self.located is None:
                return self._fs.cat_file(f"{self.root}/{path}")
            with fsspec.open(self.located[path], "rb") as file:
                return file.read()  # pyright: ignore[reportAttributeAccessIssue]

        try:
            return retry(read)
        except FileNotFoundError:
            raise
        except Exception as error:  # each store has errors of its own
            raise StoreError(
                f"{self.root}/{path}: the store did not answer ({error}). Run the same command again: "
                "finished shards are kept"
            ) from error

    def address(self, path: str) -> str:
        """The fsspec address of a file, for a download manager."""
        return self._fs.unstrip_protocol(f"{self.root}/{path}") if self._fs else f"{self.root}/{path}"

    def local_path(self, path: str) -> str | None:
        """Where a file lies on this machine, or None when it does not."""
        if self.located is not None:
            place = self.located.get(path)
            return place if place is not None and "://" not in place else None
        return None if self._fs is not None else os.path.join(self.root, path)


def basename(path: str) -> str:
    """The last part of a path, of either kind of slashes.

    Not os.path's, which datasets replaces in builder modules, for streaming.
    """
    return path.replace("\\", "/").rpartition("/")[2]


def folder_of(path: str) -> str:
    """A path without its last part."""
    return path.rpartition("/")[0]


def _stamp(info: Mapping[str, Any]) -> str:
    for key in ("blob_id", "ETag", "etag", "LastModified", "mtime", "created"):
        if info.get(key) is not None:
            return str(info[key])
    return ""


def listing_digest(entries: list[Entry]) -> str:
    """A digest of what a corpus holds; it changes when any file does."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.path}\0{entry.num_bytes}\0{entry.stamp}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
