"""MP3: its frames walked, for an exact count, and files mended that a decoder would not read to their end.

An MP3 is frames, one behind another, and nothing that says how many. Encoders put one before the others
that counts them (Xing's, "Info" where their size is constant); without it, or behind the end that it tells,
libsndfile estimates a length, and reads no further.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from speechrows.errors import BadClipError
from speechrows.types import Reason

_RATES = (44_100, 48_000, 32_000)
_KBITS = {  # of layer III, by version: 1, and 2 with 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_TAILS = re.compile(rb"TAG|APETAGEX|LYRICSBEGIN|3DI")
_COUNTS, _HAS_FRAMES = (b"Xing", b"Info"), 1
_KIND, _MONO = 0xFFFE0CC0, 0xC0  # the bits of a frame's head that tell version, layer, rate and channels
_FRAMES_TO_TRUST = 3  # one behind another: fewer come about by chance


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    """A frame's header: version and rate, size in bytes, samples, and where a count of frames would stand."""

    kind: tuple[int, int, bool]
    size: int
    num_samples: int
    count_at: int


@dataclass(kw_only=True, slots=True)
class Mp3Part:
    """Frames that follow one another: those of `[start, stop)`, the first of which may count the others.

    `promised` is the number that it tells, None where it tells none; `num_frames` is that of those that are
    there, without it.
    """

    start: int
    stop: int
    frame_samples: int
    num_frames: int
    promised: int | None
    has_count: bool

    @property
    def is_exact(self) -> bool:
        """Whether the count is right."""
        return self.promised == self.num_frames

    @property
    def num_samples(self) -> int:
        """The samples of all frames, those included that an encoder adds at both ends."""
        return self.num_frames * self.frame_samples

    def mended(self, data: memoryview) -> bytes:
        """The frames alone, with a frame before them that counts them."""
        if self.is_exact:
            return bytes(data[self.start : self.stop])
        frame = _frame(data, self.start)
        assert frame is not None  # the part was found by it
        first = self.start + (frame.size if self.has_count else 0)
        return _count_frame(data, first, self.num_frames) + bytes(data[first : self.stop])

    def is_alone(self, data: memoryview) -> bool:
        """Whether a file has nothing but this part, and tags before and behind it."""
        starts_right = self.start == 0 or bytes(data[:3]) == b"ID3"
        return starts_right and (self.stop == len(data) or is_tag(data, self.stop))

    def is_cut(self, data: memoryview) -> bool:
        """Whether the last frame is there in part, or frames are missing of those that were counted."""
        head = data[self.stop : self.stop + 4]
        is_frame = len(data) - self.stop >= 4 and _size(int.from_bytes(head) >> 9) is not None
        return is_frame or (self.promised or 0) > self.num_frames


def is_tag(data: memoryview, at: int) -> bool:
    """Whether a tag of those that stand at the end of a file begins at a place."""
    return _TAILS.match(data[at : at + 11]) is not None


def mp3_parts(data: memoryview) -> list[Mp3Part]:
    """The files that lie end to end in an MP3; none where there is no frame.

    Tags between frames, and what is no frame behind the last, are passed over.

    Raises:
        BadClipError: it is damaged: frames, something else, frames again.
    """
    parts = list[Mp3Part]()
    at = _first(data, 0)
    while at is not None:
        part = _walk(data, at)
        parts.append(part)
        behind = _behind_tags(data, part.stop)
        at = _first(data, behind)
        if at is not None and any(data[behind:at]) and not is_tag(data, behind):
            raise BadClipError(
                Reason.UNDECODABLE,
                f"found {at - behind} bytes that are no MP3 at byte {behind}, and frames behind them: the "
                "file is damaged there. Download it again, or let --max-skipped drop it",
            )
    return parts


def _walk(data: memoryview, start: int) -> Mp3Part:
    """The frames from `start` on, up to the next frame that counts frames."""
    first = _frame(data, start)
    assert first is not None  # the caller found it
    promised, has_count = _promised(data, start, first)
    at, num_frames, count_at = start + (first.size if has_count else 0), 0, first.count_at - start
    kind = int.from_bytes(data[start : start + 4]) & _KIND
    is_mono = kind & _MONO == _MONO
    while at + 4 <= len(data):
        head = int.from_bytes(data[at : at + 4])
        size = _size(head >> 9)
        if size is None or at + size > len(data) or (head ^ kind) & (_KIND - _MONO):
            break
        if (head & _MONO == _MONO) != is_mono:
            break
        if num_frames and bytes(data[at + count_at : at + count_at + 4]) in _COUNTS:  # another file begins
            break
        num_frames += 1
        at += size
    return Mp3Part(
        start=start,
        stop=at,
        frame_samples=first.num_samples,
        num_frames=num_frames,
        promised=promised,
        has_count=has_count,
    )


def _first(data: memoryview, start: int) -> int | None:
    """The first frame from `start` on that others follow, up to the end where that is near."""
    at = _behind_tags(data, start)
    for sync in _SYNC.finditer(data, at):
        start = sync.start()
        places = list(_some(data, start))
        if len(places) == _FRAMES_TO_TRUST or (places and places[-1] == len(data) and at == start):
            return start
    return None


def _some(data: memoryview, at: int) -> Iterator[int]:
    """The ends of the first frames from `at` on, each of the kind of the first."""
    first = _frame(data, at)
    frame = first
    for _ in range(_FRAMES_TO_TRUST):
        if frame is None or first is None or frame.kind != first.kind:
            return
        at += frame.size
        yield at
        frame = _frame(data, at)


def behind_id3(data: memoryview, at: int) -> int:
    """The end of a tag of ID3, version 2, that begins at a place."""
    size = 0
    for byte in data[at + 6 : at + 10]:
        size = size << 7 | byte & 0x7F
    return at + 10 + size


def _behind_tags(data: memoryview, at: int) -> int:
    """The first byte from `at` on that no tag of ID3, version 2, holds."""
    while bytes(data[at : at + 3]) == b"ID3" and at + 10 <= len(data):
        at = behind_id3(data, at)
    if bytes(data[at : at + 3]) == b"TAG":
        at = _behind_tags(data, at + 128)
    return min(at, len(data))


def _frame(data: memoryview, at: int) -> _Frame | None:
    """The frame of layer III at a place; None where there is none, or not all of it."""
    if at + 4 > len(data):
        return None
    (head,) = struct.unpack_from(">I", data, at)
    size = _size(head >> 9)
    if size is None or at + size > len(data):
        return None
    is_mono = head >> 6 & 3 == 3
    side = ((17, 32) if _is_first(head) else (9, 17))[not is_mono]
    return _Frame(
        kind=(head >> 19 & 3, head >> 10 & 3, is_mono),
        size=size,
        num_samples=1152 if _is_first(head) else 576,
        count_at=at + 4 + side,
    )


def _is_first(head: int) -> bool:
    """Whether a frame is of MPEG's version 1, not 2 or 2.5, by the 32 bits that it begins with."""
    return head >> 19 & 3 == 3


@cache
def _size(head: int) -> int | None:
    """The bytes of a frame, by the 23 bits that it begins with; None where these begin none."""
    version, kbits, rate = head >> 10 & 3, head >> 3 & 15, head >> 1 & 3
    if head >> 12 != 0x7FF or head >> 8 & 3 != 1 or version == 1 or kbits in (0, 15) or rate == 3:
        return None
    rate_hz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    slots = 144_000 if version == 3 else 72_000
    return slots * _KBITS[version == 3][kbits] // rate_hz + (head & 1)


def _count_frame(data: memoryview, at: int, num_frames: int) -> bytes:
    """A frame without sound that counts those from `at` on, in the way of Xing and LAME.

    It tells that the encoder added nothing at either end; what is left out then are the 529 samples with
    which every decoder begins.
    """
    frame = _frame(data, at)
    assert frame is not None  # it is one of those that are counted
    (head,) = struct.unpack_from(">I", data, at)
    count = struct.pack(">4sII9s27x", b"Xing", _HAS_FRAMES, num_frames, b"LAME3.100")
    begin, size = frame.count_at - at, 0
    for kbits in range(1, 15):
        head = head & ~0xF200 | kbits << 12 | 1 << 16  # without padding, and without a checksum
        size = _size(head >> 9) or 0
        if size >= begin + len(count):
            break
    return (struct.pack(">I", head) + bytes(begin - 4) + count).ljust(size, b"\0")


def _promised(data: memoryview, at: int, frame: _Frame) -> tuple[int | None, bool]:
    """The number of frames that a frame tells, and whether it is one that tells any."""
    if bytes(data[frame.count_at : frame.count_at + 4]) in _COUNTS and frame.count_at + 12 <= at + frame.size:
        flags, count = struct.unpack_from(">II", data, frame.count_at + 4)
        return (count if flags & _HAS_FRAMES else None), True
    if bytes(data[at + 36 : at + 40]) == b"VBRI" and at + 54 <= at + frame.size:
        return struct.unpack_from(">I", data, at + 50)[0], True
    return None, False
