"""FLAC and Ogg: files that lie end to end in one, and a count of samples that a stream leaves out.

libsndfile reads the first file of several, and no FLAC of unknown length.
"""

import re
import struct
from collections.abc import Iterator

from speechrows.audio.facts import truncated
from speechrows.audio.mp3 import behind_id3
from speechrows.audio.mp3 import is_tag
from speechrows.errors import BadClipError
from speechrows.types import Reason

_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # and its first block, whose size is always the same
_FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_FLAC_HEAD = 42  # bytes: those, and the first block
_LAST_FRAME = 1 << 20  # bytes, more than any frame of 65 535 samples of 2 channels takes as a rule
_PADDING = re.compile(rb"\0{16,}\Z")
_MAX_PAGE = 65_307  # bytes of an Ogg page
_BEGINS = re.compile(rb"OggS\x00[\x02\x03\x06\x07]")
_MAGIC = re.compile(rb"(?:RIFF|RF64|BW64)....WAVE|fLaC[\x00\x80]\x00\x00\x22|OggS\x00\x02", re.DOTALL)
_ZEROS = re.compile(rb"\0*")


def start_of(data: memoryview) -> int:
    """Where the file begins, behind zeros, or a tag of ID3's that does not belong before such a file."""
    zeros = _ZEROS.match(data)
    at = zeros.end() if zeros else 0
    if bytes(data[at : at + 3]) == b"ID3":
        behind = behind_id3(data, at)
        return behind if _MAGIC.match(data, behind) and not is_flac(data) else at
    return at if _MAGIC.match(data, at) or bytes(data[at : at + 1]) == b"\xff" else 0


def check_container(data: memoryview) -> None:
    """Refuse a file that ends before its container does: libsndfile would read the rest without an error.

    Raises:
        BadClipError: it does.
    """
    kind, promised = bytes(data[:4]), 0
    if kind == b"OggS":
        if not _ogg_is_whole(data):
            raise truncated(f"is {len(data)} bytes of Ogg, expected a last page marked as such")
    elif kind == b"FORM" and len(data) >= 8:
        promised = 8 + struct.unpack_from(">I", data, 4)[0]
    elif kind == b"riff" and len(data) >= 24:  # Sony's Wave64
        promised = struct.unpack_from("<Q", data, 16)[0]
        if promised >= 1 << 62:
            raise BadClipError(
                Reason.UNDECODABLE,
                "found Wave64 streamed into a pipe, expected a header that says how many bytes follow. "
                "Encode it again",
            )
    if promised > len(data):
        raise truncated(f"is {len(data)} bytes, its header promises {promised}")


def _ogg_is_whole(data: memoryview) -> bool:
    """Whether the last page is complete and has Ogg's end-of-stream flag."""
    tail = bytes(data[-_MAX_PAGE:])
    page = tail.rfind(b"OggS")
    if page < 0 or page + 27 > len(tail):
        return False
    lengths = page + 27, page + 27 + tail[page + 26]
    return bool(tail[page + 5] & 4) and lengths[1] + sum(tail[slice(*lengths)]) <= len(tail)


def ogg_parts(data: memoryview) -> list[memoryview]:
    """The streams that follow one another in an Ogg file, each as a file of its own."""
    if _BEGINS.search(data, 1) is None:
        return [data]
    starts, had_others = [0], False
    for at, flags in _pages(data):
        if flags & 2 and had_others:
            starts.append(at)
        had_others = not flags & 2
    return [data[begin:end] for begin, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _pages(data: memoryview) -> Iterator[tuple[int, int]]:
    """Where each page begins, and its flags."""
    at = 0
    while bytes(data[at : at + 4]) == b"OggS" and at + 27 <= len(data):
        yield at, data[at + 5]
        num_lengths = data[at + 26]
        at += 27 + num_lengths + sum(data[at + 27 : at + 27 + num_lengths])


def flac_parts(data: memoryview) -> list[memoryview]:
    """The files that lie end to end in a FLAC file, each with a count of its samples, without tags behind it.

    Raises:
        BadClipError: the count is missing, and no last frame is there to tell it.
    """
    starts = [head.start() for head in _FLAC.finditer(data)]
    stops = [*starts[1:], len(data)]
    return [_counted(data[begin : _end(data, end)]) for begin, end in zip(starts, stops, strict=True)]


def is_flac(data: memoryview) -> bool:
    """Whether a file is FLAC; a tag of ID3's may stand before it, as players expect."""
    at = behind_id3(data, 0) if bytes(data[:3]) == b"ID3" else 0
    return _FLAC.match(data, at) is not None


def flac_facts(data: bytes | memoryview) -> tuple[int, int] | None:
    """The rate and the samples that a FLAC file tells of itself; None of what is none, or tells neither."""
    rate, count = int.from_bytes(data[18:21]) >> 4, _flac_count(memoryview(data))
    return (rate, count) if bytes(data[:4]) == b"fLaC" and rate and count else None


def is_odd_flac(data: memoryview) -> bool:
    """Whether a FLAC file is several, or has no count, or something behind its end."""
    if not is_flac(data):
        return False
    starts = [head.start() for head in _FLAC.finditer(data)]
    is_counted = _flac_count(data[starts[0] :]) > 0
    return (
        len(starts) > 1
        or not is_counted
        or _end(data, len(data)) < len(data)
        or bool(_PADDING.search(data, max(0, len(data) - 64)))
    )


def _end(data: memoryview, end: int) -> int:
    """The end of a file without the tag of 128 bytes that MP3s have."""
    return end - 128 if end > 128 and is_tag(data, end - 128) else end


def _flac_count(data: memoryview) -> int:
    return int.from_bytes(data[21:26]) & 0xF_FFFF_FFFF


def _counted(data: memoryview) -> memoryview:
    """The file, its count of samples filled in where a stream left it open."""
    if len(data) < _FLAC_HEAD or _flac_count(data):
        return data
    count = _count_of_last_frame(data)
    if count is None:
        raise BadClipError(
            Reason.UNDECODABLE,
            "found FLAC streamed into a pipe, without a last frame that tells how many samples there are; "
            "expected one. Encode it again",
        )
    filled = bytearray(data)
    filled[21:26] = (int.from_bytes(data[21:26]) & ~0xF_FFFF_FFFF | count).to_bytes(5)
    return memoryview(bytes(filled))


def _count_of_last_frame(data: memoryview) -> int | None:
    """The samples up to the end of the last frame, by the number in its header."""
    least, most = struct.unpack_from(">HH", data, 8)
    begin = max(_FLAC_HEAD, len(data) - _LAST_FRAME)
    for sync in reversed(list(_FLAC_SYNC.finditer(data, begin))):
        head = bytes(data[sync.start() : sync.start() + 16])
        length = _coded_length(head[4]) if len(head) == 16 else 0
        if not length:
            continue
        number = _coded_number(head[4 : 4 + length])
        at, size_code, rate_code = 4 + length, head[2] >> 4, head[2] & 15
        extra = {6: 1, 7: 2}.get(size_code, 0)
        size = _block_size(size_code, head[at : at + extra])
        at += extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
        if size is None or rate_code == 15 or head[1] & 2 or _crc8(head[:at]) != head[at]:
            continue
        if head[1] & 1:
            return number + size
        return number * max(least, most) + size
    return None


def _block_size(code: int, extra: bytes) -> int | None:
    if code == 0:
        return None
    if code in (6, 7):
        return int.from_bytes(extra) + 1
    return 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8


def _coded_length(byte: int) -> int:
    """How many bytes a number takes, coded as UTF-8 codes its characters; 0 where none is coded so."""
    if byte < 0x80:
        return 1
    ones = 8 - (~byte & 0xFF).bit_length()
    return ones if 2 <= ones <= 7 else 0


def _coded_number(coded: bytes) -> int:
    if len(coded) == 1:
        return coded[0]
    number = coded[0] & (1 << (7 - len(coded))) - 1 if len(coded) < 7 else 0
    for byte in coded[1:]:
        number = number << 6 | byte & 0x3F
    return number


def _crc8(data: bytes) -> int:
    """The checksum of a frame's header, of the polynomial x^8 + x^2 + x + 1."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 & 0xFF ^ (7 if crc & 0x80 else 0)
    return crc
