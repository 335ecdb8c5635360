"""A corpus whose clips lie in a folder of their own, beside that of its tables."""

import os
import posixpath
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from typing import BinaryIO

from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.corpora.turns import is_audio

CLIPS = "audio-root"  # the folder, in the corpus, that the clips' own folder is seen as


@dataclass(frozen=True)
class TwoFolders(Corpus):
    """A corpus with another below `audio-root/`: of it are the clips."""

    clips: Corpus = field(kw_only=True)

    @classmethod
    def of(cls, corpus: Corpus, clips: Corpus) -> "TwoFolders":
        """A corpus with the folder of its clips."""
        return cls(root=corpus.root, folders=corpus.folders, _fs=corpus._fs, clips=clips)

    def list(self) -> list[Entry]:
        """List every file of the corpus, and the clips of the other folder, sorted by path."""
        clips = (entry for entry in self.clips.list() if is_audio(entry.path))
        return sorted([*super().list(), *(clip._replace(path=f"{CLIPS}/{clip.path}") for clip in clips)])

    def resolve(self, folder: str, name: str) -> str:
        """Resolve a name as a corpus does, in the one of both that its folder is of."""
        path = _below(folder)
        if path is None:
            return super().resolve(folder, name)
        return f"{CLIPS}/{self.clips.resolve(path, name)}"

    def read(self, path: str, most: int | None = None) -> bytes:
        """Read a whole file."""
        clip = _below(path)
        if clip is None or path in self._fetched:
            return super().read(path, most)
        return self.clips.read(clip, most)

    def open_file(self, path: str) -> BinaryIO:
        """Open a file for reading at any offset."""
        clip = _below(path)
        if clip is None or path in self._fetched:
            return super().open_file(path)
        return self.clips.open_file(clip)

    def changed(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
        """Files that are not as they were listed, each with what it is now, in words."""
        own, clips = list[Entry](), list[Entry]()
        for entry in entries:
            clip = _below(entry.path)
            (own if clip is None else clips).append(entry if clip is None else entry._replace(path=clip))
        yield from super().changed(own)
        for entry, now in self.clips.changed(clips):
            yield entry._replace(path=f"{CLIPS}/{entry.path}"), now

    def address(self, path: str) -> str:
        """The fsspec address of a file, for a download manager."""
        clip = _below(path)
        return super().address(path) if clip is None else self.clips.address(clip)

    def local_path(self, path: str) -> str | None:
        """The path of a file on this machine; None if it is remote."""
        clip = _below(path)
        return super().local_path(path) if clip is None else self.clips.local_path(clip)


def _below(path: str) -> str | None:
    """A path inside the clips' folder, "" of the folder itself; None of any other."""
    first, _, rest = path.partition("/")
    return rest if first == CLIPS else None


def with_clips(corpus: Corpus, address: str, flag: str = "--audio-root") -> Corpus:
    """The corpus with the folder at an address; the corpus itself, where that is a folder of it.

    Raises:
        UsageError: there is no such folder; it names the `flag`.
    """
    if _inside(corpus, address) is not None:
        return corpus
    return TwoFolders.of(corpus, Corpus.open(address, flag=flag))


def clips_folder(corpus: Corpus, address: str) -> str:
    """The folder of a corpus that `with_clips` gave for an address."""
    inside = _inside(corpus, address)
    return CLIPS if inside is None else inside


def _inside(corpus: Corpus, address: str) -> str | None:
    """The path in a corpus of a folder that is told by its address, or by its path in there."""
    root = Corpus.local_path(corpus, "")
    if "://" in address:
        return None
    if root is None:
        return None if os.path.isdir(address) else posixpath.normpath(address)
    if not os.path.isabs(address) and os.path.isdir(os.path.join(root, address)):
        place = os.path.realpath(os.path.join(root, address))
    else:
        place = os.path.realpath(os.path.expanduser(address))
    path = os.path.relpath(place, root)
    return None if path == ".." or path.startswith("../") else "" if path == "." else path
