"""Files of a corpus as they are listed, and their paths."""

import hashlib
from typing import NamedTuple


class Entry(NamedTuple):
    """A file of a corpus, or a symlink that is not followed (to a folder, out of the corpus, to nothing).

    `stamp` changes when the content does: a modification time, or the blob id of a remote store.
    """

    path: str
    num_bytes: int
    stamp: str
    refused: bool = False

    @property
    def content(self) -> str:
        """Its size and stamp in words: where they differ, so may the bytes."""
        return f"{self.num_bytes} bytes of {self.stamp}"


def basename(path: str) -> str:
    """The last part of a path with slashes or backslashes.

    Not os.path.basename: datasets replaces that in builder modules, for streaming.
    """
    return path.replace("\\", "/").rpartition("/")[2]


def folder_of(path: str) -> str:
    """A path without its last part."""
    return path.rpartition("/")[0]


def listing_digest(entries: list[Entry]) -> str:
    """A digest of a corpus' files; it changes when any of them does."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.path}\0{entry.num_bytes}\0{entry.stamp}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
