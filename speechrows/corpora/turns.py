"""What every reader does with a turn: its text, number, role and clip's name checked, its faults made."""

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any
from typing import TypeGuard

from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.errors import describe_error
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Role
from speechrows.types import UnreadableFile

# Of clips' names, whatever their case; those of the second line are read with ffmpeg.
AUDIO_SUFFIX = (
    r"\.(?:wav|flac|opus|ogg|mp3|aiff?|au|caf|rf64|w64"
    r"|m4a|mp4|aac|webm|mka|oga|wma|amr)"
)
MAX_NUMBER = 1 << 31  # turns are numbered in int32
MAX_NAME = 4096  # letters of a conversation's id, a speaker, a domain: each row repeats them
MAX_TEXT_BYTES = 64 << 20  # of a file that is read whole; parsed, JSON may take thirty times as much

_MAX_DIGITS = 600  # Python reads a few thousand at most

_AUDIO = re.compile(rf".*{AUDIO_SUFFIX}", re.IGNORECASE | re.DOTALL)


def is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a string, and one that can be written as UTF-8."""
    return isinstance(value, str) and is_unicode(value)


def is_unicode(text: str) -> bool:
    """Whether it has no lone surrogates: bytes that were no UTF-8, or a broken escape."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked_text(value: Any, name: str = "text") -> str:
    """A turn's text as it is.

    Raises:
        BadClipError: it is no string, or none of UTF-8; `name` is what the corpus calls it.
    """
    if not is_text(value):
        raise BadClipError(Reason.BAD_TEXT, f"found {name} {value!a:.80}, expected a string of UTF-8")
    return value


def is_audio(path: str) -> bool:
    """Whether a file is a clip by its name; a .txt beside one is none."""
    return _AUDIO.fullmatch(path) is not None


def turn_number(value: Any, *, first: int = 0) -> int | None:
    """A turn's number from 0, of a corpus that counts from `first`; None where it is no such number."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value - first if is_number and first <= value < MAX_NUMBER else None


def numbered(numbers: Sequence[int | None]) -> list[int]:
    """Turns' numbers, with a free one in the place of each None.

    So a turn whose number is none costs no other turn, where turns count alone.
    """
    taken = set(numbers)
    free = (number for number in itertools.count() if number not in taken)
    return [next(free) if number is None else number for number in numbers]


def role_of(speaker: str, first: str | None, *, swap_roles: bool) -> Role:
    """The role of one of two peers: whoever speaks first is the user, or with `swap_roles` the assistant."""
    return "user" if (speaker == first) != swap_roles else "assistant"


def fault_of(error: BadClipError, file: str) -> Fault:
    """The fault of a turn that `file` describes."""
    return Fault(reason=error.reason, detail=error.detail, file=file)


def read_text(
    corpus: Corpus, path: str, errors: str = "surrogateescape", *, most: int = MAX_TEXT_BYTES
) -> str:
    """The text of a file of `most` bytes, without its byte order mark.

    By default, bytes that are no UTF-8 become lone surrogates, which cost their own turn and not the file.

    Raises:
        BadClipError: the path leads out of the corpus, or the file is larger.
        OSError: it can not be read.
        UnicodeDecodeError: it is no UTF-8, where `errors` is "strict".
    """
    return corpus.read(corpus.resolve("", path), most).decode("utf-8-sig", errors)


def parse_json(text: str, **hooks: Any) -> Any:
    """A JSON value, as json.loads reads it with these hooks; a whole number of endless digits is infinity.

    So it costs the turn whose it is, and not all that is described beside it.

    Raises:
        ValueError, RecursionError: it is no JSON, or nested too deeply.
    """
    return json.loads(text, parse_int=_whole_number, **hooks) if hooks else _DECODER.decode(text)


def _whole_number(digits: str) -> float:
    return int(digits) if len(digits) < _MAX_DIGITS else float(digits)


_DECODER = json.JSONDecoder(parse_int=_whole_number)  # json.loads would make one for each text


def check_same(what: str, ours: str, theirs: str | None, clip: str) -> None:
    """Compare what a corpus says twice of a turn: letters and digits alone, for writers quote as they like.

    Raises:
        BadClipError: the clip, by its name or its line of a table, has something else.
    """
    if _letters(ours) and _letters(theirs or "") not in ("", _letters(ours)):
        detail = f"{clip}: found {what} {ours!r:.80}, expected its clip's, which is {theirs!r:.80}"
        raise BadClipError(Reason.METADATA_DISAGREES, detail)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def unreadable(file: str, error: Exception, expected: str) -> UnreadableFile:
    """A file that can not be read, as an item of the ledger."""
    return UnreadableFile(file=file, detail=f"found {describe_error(error)}; expected {expected}")
