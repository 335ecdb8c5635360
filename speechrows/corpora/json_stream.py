"""A JSON array that is larger than memory, read record by record; a record that breaks costs itself alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from typing import BinaryIO
from typing import TypeGuard

import ijson

NOT_TEXT = "\ufdd0"  # stands where bytes were no UTF-8, or an escape half a pair; no text may hold it
_MAX_RECORD = 64 << 20  # bytes: a record that goes on for longer was never closed
_MAX_BRACKETS = 8192  # that a record opens: the parser's memory grows with the square of their depth
_LONG_NUMBER = re.compile(rb"[0-9]{600,}")  # the parser crashes on those that Python refuses to read
_STRING_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*+"|(?P<number>[0-9]{600,})', re.DOTALL)
_MAX_START = 64  # bytes that show where a record begins
_READ, _PIECE = 1 << 20, 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """In place of a record: what could not be read, and where."""

    detail: str


def is_text(value: Any) -> TypeGuard[str]:
    """Whether a value of a record is a string, and was UTF-8 throughout."""
    return isinstance(value, str) and NOT_TEXT not in value


def read_records(file: BinaryIO, record_start: re.Pattern[bytes]) -> Iterator[Any]:
    """The items of one JSON array, and a Broken in place of each that can not be read.

    `record_start` matches the first bytes of a record, 64 at most, and nothing inside a string (whose
    quotes are escaped). Where records begin otherwise, one that breaks ends the array.
    """
    frames, number = _Frames(file, record_start), 0
    while True:
        try:
            for record in ijson.items(frames, "item"):
                frames.close_record()
                yield record
                number += 1
        except (ijson.JSONError, ValueError, ArithmeticError) as error:  # the last of huge exponents
            message = re.sub(r"\s+", " ", str(error)).partition(" (right here)")[0]
            yield Broken(
                detail=f"found {message!r:.120} in record {number}, which begins near byte {frames.start}; "
                "expected a JSON array of records"
            )
            number += 1
            if not frames.skip():
                return
        else:
            if not number:
                yield Broken(detail="found no record; expected a JSON array of records")
            return


_ESCAPES = re.compile(  # one at a time, so that a backslash's own escape hides what follows it
    rb"\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


class _Frames:
    """A JSON array as a file for its parser, which reads one record at a time.

    A parser that fails loses all that it has read: so it never reads two records at once. Where no
    record is seen to begin, it reads pieces of the file, and a failure ends the array.
    """

    def __init__(self, file: BinaryIO, record_start: re.Pattern[bytes]) -> None:
        self._file = file
        self._record_start = record_start
        self._buffer = b""
        self._at = 0  # in the buffer
        self._read = 0  # bytes of the file, until the buffer's end
        self._prefix = b""
        self._open = 0  # bytes read since a record was closed
        self._brackets = 0  # among them
        self._digits = b""  # that the last piece ends with
        self._framed = True
        self._num_frames = 0
        self.start = 0

    def close_record(self) -> None:
        """Note that the parser has come to the end of a record."""
        self._open = self._brackets = 0

    def _refuse_long_numbers(self, piece: bytes) -> None:
        """Raises ValueError. A piece is a record with all of its strings, or, unframed, any part of one."""
        piece = self._digits + piece
        self._digits = piece[len(piece.rstrip(b"0123456789")) :][-_MAX_START * 10 :]
        if _LONG_NUMBER.search(piece) and (
            not self._framed or any(match["number"] for match in _STRING_OR_NUMBER.finditer(piece))
        ):
            raise ValueError("a number of 600 digits or more")

    def skip(self) -> bool:
        """Go on at the next record, as if the array began there. False where none is seen to begin."""
        self._prefix, self._open, self._brackets, self._digits = b"[", 0, 0, b""
        if not self._framed:
            return False
        while not (match := self._record_start.search(self._buffer, self._at)):
            self._at = max(self._at, len(self._buffer) - _MAX_START)
            if not self._fill():
                return False
        self._at = match.start()
        return True

    def read(self, size: int) -> bytes:
        """The next piece: a record and what follows it, or a part of one."""
        if size == 0:
            return b""  # how the parser finds out that this is a file of bytes
        if self._open and self._framed and self._num_frames == 1:
            self._framed = False  # what begins like a record lies inside one
        elif self._open and (self._framed or self._open > _MAX_RECORD):
            raise ValueError(f"{self._open} bytes that close no record")
        self.start = self._read - len(self._buffer) + self._at
        end = self._end() if self._framed else self._any_end()
        piece, self._at = self._prefix + _clean(self._buffer[self._at : end]), end
        self._prefix = b""
        self._num_frames += 1
        self._open += len(piece)
        self._brackets += piece.count(b"[") + piece.count(b"{")
        if self._brackets > _MAX_BRACKETS:
            raise ValueError(f"{self._brackets} brackets")
        self._refuse_long_numbers(piece)
        return piece

    def _end(self) -> int:
        """Where the second record from here on begins, or the file ends."""
        if not (first := self._find(0)):
            return len(self._buffer)
        second = self._find(first.end() - self._at)
        return second.start() if second else len(self._buffer)

    def _find(self, ahead: int) -> re.Match[bytes] | None:
        while not (match := self._record_start.search(self._buffer, self._at + ahead)):
            if len(self._buffer) - self._at > _MAX_RECORD:
                return None
            ahead = max(ahead, len(self._buffer) - self._at - _MAX_START)
            if not self._fill():
                return None
        return match

    def _any_end(self) -> int:
        """The end of a piece, where it divides no character and no escape."""
        while len(self._buffer) - self._at >= _PIECE or self._fill():
            stop = self._at + _PIECE
            if (end := max(self._buffer.rfind(byte, self._at, stop) for byte in (b'"', b",", b"\n"))) > 0:
                return end + 1
            if len(self._buffer) > stop:
                return stop
        return len(self._buffer)

    def _fill(self) -> bool:
        more = self._file.read(_READ)
        if not self._read and more.startswith(b"\xef\xbb\xbf"):
            more = b"   " + more[3:]
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        self._read += len(more)
        return bool(more)


def _clean(piece: bytes) -> bytes:
    """JSON with NOT_TEXT for bytes that are no UTF-8, which parsers refuse, and for half pairs of escapes."""
    if not piece.isascii():
        try:
            piece.decode()
        except UnicodeDecodeError:
            text = piece.decode(errors="surrogateescape")
            piece = re.sub("[\udc80-\udcff]+", NOT_TEXT, text).encode()
    if b"\\ud" in piece or b"\\uD" in piece:
        return _ESCAPES.sub(lambda match: b"\\ufdd0" if match["half"] else match[0], piece)
    return piece
