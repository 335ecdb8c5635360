"""Tar archives, read as streams and never unpacked.

An archive is one file or byte slices of one, gzipped or not (its first bytes decide), on disk or
behind any fsspec address. Nothing of it stays in memory but the member being read.
"""

import itertools
import tarfile
import time
import zlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO
from typing import cast

from speechrows.corpora.entries import basename
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.errors import StoreError
from speechrows.storage import retry
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import UnreadableFile

MAX_BYTES = 1 << 30  # of a member; larger ones are passed over

_MAX_HEADER = 1 << 20  # of what tarfile reads for itself: long names and pax records
_READ_BYTES = 1 << 16  # of an archive at once
_CHUNK_BYTES = 1 << 20  # unpacked at once, whatever a bomb would unpack to
_NAMES = Corpus(root="", located={})  # resolves names without a look at any disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file of an archive with its bytes, or an entry that is refused and has none."""

    name: str
    data: bytes
    refused: Fault | None = None

    @property
    def basename(self) -> str:
        """The last part of its name."""
        return basename(self.name)


def members(
    corpus: Corpus, paths: Sequence[str], *, takes_absolute: bool = False
) -> Iterator[Member | UnreadableFile]:
    """The members of the archive that `paths` are the slices of, in order.

    Folders are passed over. An archive that is cut or spoilt gives what came before, then an
    UnreadableFile. Absolute names are refused, or with `takes_absolute` without their first slash.

    Raises:
        StoreError: a remote store did not answer, asked again and again.
    """
    slices = _Slices(corpus, paths)
    number, name = 0, ""
    try:
        stream = _ForwardFile(slices.unpacked())
        tar = _Tar(fileobj=cast("IO[bytes]", stream), errors="surrogateescape")
        while (info := tar.next()) is not None:
            tar.members.clear()  # tarfile would keep millions
            number, name = number + 1, info.name
            if not info.isdir():
                name = info.name.lstrip("/") if takes_absolute else info.name
                yield _member(slices.path, tar, info, stream, name)
        stream.check_end()
    except BadClipError as error:  # of a slice's own path: its detail is complete
        yield UnreadableFile(file=slices.path, detail=error.detail)
    except (
        *(tarfile.TarError, zlib.error, EOFError, OSError, ValueError, ArithmeticError, LookupError),
        *(TypeError, AttributeError, RecursionError),  # of headers that tarfile trusts
    ) as error:
        after = f"after {number} members, the last {name!a:.200}" if number else "before any member"
        detail = (
            f"found {_describe(error)} {after}; expected a whole tar archive, gzipped or plain. What came "
            "before is used. Download it again"
        )
        yield UnreadableFile(file=slices.path, detail=detail)


class _Tar(tarfile.TarFile):
    members: list[tarfile.TarInfo]  # a public name that typeshed lacks


def _member(
    archive: str, tar: tarfile.TarFile, info: tarfile.TarInfo, stream: "_ForwardFile", path: str
) -> Member:
    """A member, whose name is `path`."""
    try:
        name = _NAMES.resolve("", path)
        if not info.isreg():
            detail = f"found {info.name!a:.200}, {_kind(info)}; expected a file"
            raise BadClipError(Reason.REFUSED_PATH, detail)
        if info.size > MAX_BYTES:
            detail = f"found a member of {info.size} bytes, expected at most {MAX_BYTES}; split it"
            raise BadClipError(Reason.TOO_LARGE, detail)
    except BadClipError as error:
        fault = Fault(reason=error.reason, detail=error.detail, file=archive)
        return Member(name=info.name, data=b"", refused=fault)
    if info.issparse():
        file = tar.extractfile(info)
        data = file.read() if file else b""
    else:
        stream.seek(info.offset_data)
        data = stream.take(info.size)
    if len(data) < info.size:
        raise EOFError(f"{len(data)} of the {info.size} bytes of {info.name!a:.200}")
    return Member(name=name, data=data)


def _kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return f"a link to {info.linkname!a:.200}"
    return "a device" if info.ischr() or info.isblk() else "a pipe" if info.isfifo() else "no regular file"


def _describe(error: Exception) -> str:
    """An error in words: of the operating system's without the path, which is this machine's."""
    message = error.strerror if isinstance(error, OSError) else error
    return f"{message or type(error).__name__}"


class _Slices:
    """The bytes of an archive's slices, one after the other; `path` is the slice being read."""

    def __init__(self, corpus: Corpus, paths: Sequence[str]) -> None:
        self._corpus = corpus
        self._paths = paths
        self.path = paths[0]

    def unpacked(self) -> Iterator[bytes]:
        """The tar archive in pieces of at most _CHUNK_BYTES."""
        raw = self._raw()
        head = next(raw, b"") + next(raw, b"")
        pieces = itertools.chain([head], raw)
        return _unzip(pieces) if head.startswith(b"\x1f\x8b") else pieces

    def _raw(self) -> Iterator[bytes]:
        for path in self._paths:
            self.path = path
            yield from self._slice(self._corpus.resolve("", path))

    def _slice(self, path: str) -> Iterator[bytes]:
        """A file's bytes. Where a remote store breaks off, reading is retried from that byte on."""
        position, pauses = 0, list(retry.PAUSES)
        while True:
            try:
                with self._corpus.open_file(path) as file:
                    file.seek(position)
                    while piece := file.read(_READ_BYTES):
                        position += len(piece)
                        yield piece
                    return
            except FileNotFoundError:
                raise
            except OSError as error:
                if self._corpus.local_path(path) is not None:
                    raise
                if not pauses:
                    raise StoreError(
                        f"{self._corpus.root}/{path}: the store did not answer at byte {position} ({error}). "
                        "Run the same command again: finished shards are kept"
                    ) from error
                time.sleep(pauses.pop(0))


def _unzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack gzip streams, by zlib itself: the gzip module costs a tenth more time.

    Raises:
        EOFError: the last stream ends too early.
        zlib.error: it is none, or its checksum is wrong.
    """
    gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for piece in pieces:
        packed = piece
        while packed:
            if gzip.eof:  # another stream follows, or padding, or what gzip too ignores
                packed = packed.lstrip(b"\0")
                if not packed.startswith(b"\x1f"):
                    break
                gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
            before = gzip.copy()
            try:
                unpacked = gzip.decompress(packed, _CHUNK_BYTES)
            except zlib.error:  # which took with it what the piece held before the error: once more, slowly
                gzip, unpacked = before, before.decompress(packed, tarfile.BLOCKSIZE)
            yield unpacked
            packed = gzip.unused_data if gzip.eof else gzip.unconsumed_tail
    yield gzip.flush()
    if not gzip.eof:
        raise EOFError("the end of the file inside a gzip stream")


class _ForwardFile:
    """The unpacked archive as a file for tarfile, which can only be read forwards."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._position = 0
        self._header = b""  # what tarfile read last

    def tell(self) -> int:
        """The position reached."""
        return self._position

    def read(self, size: int) -> bytes:
        """The next bytes, for tarfile itself.

        Raises:
            ReadError: they are more than a header has.
        """
        if size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self._header = self.take(size)
        return self._header

    def seek(self, position: int) -> None:
        """Read on to a position, at most to the end."""
        if position < self._position:
            raise tarfile.ReadError("a header that points backwards")
        while self._position < position and (piece := self._next(position - self._position)):
            del piece

    def take(self, size: int) -> bytes:
        """The next bytes, fewer at the end only."""
        pieces: list[memoryview] = []
        while size > 0 and (piece := self._next(size)):
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _next(self, size: int) -> memoryview:
        """Some of the next bytes, at most `size`; none at the end."""
        while not self._piece and (piece := next(self._pieces, None)) is not None:
            self._piece = memoryview(piece)
        piece, self._piece = self._piece[:size], self._piece[size:]
        self._position += len(piece)
        return piece

    def check_end(self) -> None:
        """Check the end that tarfile stopped at: it accepts most.

        Raises:
            ReadError: the archive does not end there, or ends without its mark.
        """
        if not self._header:
            raise tarfile.ReadError("no mark of its end")
        if len(self._header) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"{len(self._header)} bytes of a header")
        if self._header.strip(b"\0"):
            raise tarfile.ReadError("what is no header")
        # To the end, so that a gzip checksum is compared.
        while piece := self._next(_CHUNK_BYTES):
            if b"ustar" in bytes(piece):
                raise tarfile.ReadError("another archive behind its end")
