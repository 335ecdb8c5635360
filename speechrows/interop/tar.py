"""Tar archives for peers, the same bytes on every run: no time, no user, clips written where they lie."""

import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_MODE = 0o444  # as webdataset writes them


class TarShard:
    """An archive that is being written; a name that is too long for a header has one of its own (pax)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, 0

    def add(self, name: str, data: bytes | memoryview) -> None:
        """Write a member."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), _MODE
        header = member.tobuf(tarfile.PAX_FORMAT)
        self._file.write(header)
        self._file.write(data)
        self._size += len(header) + len(data)
        self._fill(tarfile.BLOCKSIZE)

    def close(self) -> None:
        """Write the end: two empty blocks, and what fills the last record."""
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._size += 2 * tarfile.BLOCKSIZE
        self._fill(tarfile.RECORDSIZE)

    def _fill(self, multiple: int) -> None:
        padding = -self._size % multiple
        self._file.write(bytes(padding))
        self._size += padding


@contextmanager
def new_tar(path: Path) -> Generator[TarShard]:
    """Write an archive; it is whole once this ends."""
    with path.open("wb") as file:
        shard = TarShard(file)
        yield shard
        shard.close()
