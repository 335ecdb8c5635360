"""The files of a built folder as they are published: each is read and hashed once, under a progress bar."""

import hashlib
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import CommitOperationAdd
from huggingface_hub.hf_api import RepoFile
from tqdm import tqdm

from speechrows.folder.layout import CARD
from speechrows.hub.publish.contents import check_clips


class LocalFiles:
    """The files of a folder that is to be published; `sizes` are their bytes, by path."""

    def __init__(self, folder: Path, sizes: Mapping[str, int]) -> None:
        self._folder = folder
        self._sizes = sizes
        self._additions = dict[str, CommitOperationAdd]()
        self._digests = dict[str, str]()

    def same(self, remote: Mapping[str, RepoFile]) -> dict[str, int]:
        """Return those that a repository has with the same bytes, by size, then by digest; not the card."""
        alike = [
            path
            for path, size in self._sizes.items()
            if path != CARD and path in remote and remote[path].size == size
        ]
        # Read once, however often others change the repository.
        for path in self._reading([path for path in alike if path not in self._digests]):
            is_git = remote[path].lfs is None
            file = self._folder / path
            self._digests[path] = _git_digest(file.read_bytes()) if is_git else _digest(file)
        return {
            path: self._sizes[path] for path in alike if self._digests[path] == _digest_there(remote[path])
        }

    def additions(self, paths: Iterable[str]) -> list[CommitOperationAdd]:
        """Return the operations that add files: one for each, for it remembers that it was uploaded.

        Raises:
            UsageError: a clip of one is a name without bytes.
        """
        paths = list(paths)
        for path in self._reading([path for path in paths if path not in self._additions]):
            check_clips(self._folder, path)
            self._additions[path] = CommitOperationAdd(path, str(self._folder / path))
        return [self._additions[path] for path in paths]

    def _reading(self, paths: Collection[str]) -> Iterator[str]:
        """Yield paths, with a bar of the bytes behind; quiet when not a terminal."""
        total = sum(self._sizes[path] for path in paths)
        disable = None if paths else True
        with tqdm(total=total, desc="reading", unit="B", unit_scale=True, disable=disable) as bar:
            for path in paths:
                yield path
                bar.update(self._sizes[path])


def _digest_there(remote: RepoFile) -> str:
    return remote.blob_id if remote.lfs is None else remote.lfs.sha256


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _git_digest(data: bytes) -> str:
    """Return the digest by which git names a small file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
