"""Errors: each names the row or file, what was found, what was expected, what to do."""

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # with it comes numpy, which the command line does without until a command runs
    from speechrows.types import Reason

# Control characters but for tabs and line feeds, line separators, what turns the reading direction, and
# lone surrogates, which no terminal's encoding has.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """Text for a terminal: characters by which data would steer it are spelt, as escape sequences are."""
    return _STEERING.sub(lambda found: found.group().encode("unicode_escape").decode(), str(text))


class SpeechRowsError(Exception):
    """The root of every error that speechrows raises on purpose; its text is printable."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(SpeechRowsError):
    """A wrong call (exit code 2): a name, an option, a folder."""


class ShortfallError(SpeechRowsError):
    """Data that falls short (exit code 1): too many faults, or nothing to build from."""


class FullDiskError(SpeechRowsError):
    """There is no room left to write (exit code 1)."""


class DivergedError(SpeechRowsError):
    """Training whose losses, gradients or weights are no longer finite (exit code 1)."""


class StoreError(SpeechRowsError):
    """A remote store that did not answer: nothing is known of the file, so nothing is skipped."""


class TemplateError(UsageError):
    """A chat template whose shape leaves no place for a supervised target."""


class BadClipError(SpeechRowsError):
    """A clip that can not become part of a row; `reason` is counted in the ledger."""

    def __init__(self, reason: "Reason", detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["BadClipError"], tuple["Reason", str]]:
        """Errors of workers are pickled, by all that they were made of."""
        return type(self), (self.reason, self.detail)


def describe_error(error: Exception) -> str:
    """An error in a line: its kind, and what it says, without the path where the system says it."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {' '.join(words.split())}"


def first_line(error: Exception) -> str:
    """The first line of what an error says; the name of its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean NAME?`, with the known name that is closest; empty where none is close."""
    by_lower = {entry.lower(): entry for entry in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""
