"""Errors: each names the row or file, what was found, what was expected, what to do."""

from speechrows.types import Reason


class SpeechRowsError(Exception):
    """The root of every error that speechrows raises on purpose."""


class UsageError(SpeechRowsError):
    """A wrong call (exit code 2): a name, an option, a folder."""


class ShortfallError(SpeechRowsError):
    """Data that falls short (exit code 1): too many faults, or nothing to build from."""


class StoreError(SpeechRowsError):
    """A remote store that did not answer: nothing is known of the file, so nothing is skipped."""


class TemplateError(UsageError):
    """A chat template whose shape leaves no place for a supervised target."""


class BadClipError(SpeechRowsError):
    """A clip that can not become part of a row; `reason` is counted in the ledger."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
