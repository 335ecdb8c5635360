"""Retry policy for remote stores: attempts and back-off."""

import time
from collections.abc import Callable
from typing import TypeVar

from speechrows.errors import SpeechRowsError

PAUSES = (0.5, 2.0)  # seconds between attempts
PATIENT = (0.5, 2.0, 8.0, 30.0)  # of who writes: a store at its limit asks for patience
QUOTA = 65 * (60.0,)  # of who has used up what the Hub gives an hour: 128 commits to a repository

_NOBODY = ("NoCredentialsError", "PartialCredentialsError")  # of S3's client, which is no dependency

T = TypeVar("T")


def is_nobody(error: Exception) -> bool:
    """Whether a store was not asked at all: its client has no credentials."""
    return type(error).__name__ in _NOBODY


def retry(
    call: Callable[[], T],
    wait: Callable[[float], object] = time.sleep,
    *,
    patient: bool = False,
    again: tuple[type[SpeechRowsError], ...] = (),
) -> T:
    """Return `call()`, retried after each of PAUSES, or PATIENT, if it fails.

    What is missing or forbidden is an answer, and so is an error of ours, but where `again` names it; without
    credentials, a store is not asked again. `wait` is called with the seconds of a pause; if it returns true,
    the result is no longer needed.

    Raises:
        Exception: the error of the last attempt; each store has errors of its own.
    """
    for pause in PATIENT if patient else PAUSES:
        try:
            return call()
        except again:
            wait(pause)
        except (FileNotFoundError, PermissionError, SpeechRowsError):
            raise
        except Exception as error:
            if is_nobody(error) or wait(pause):
                raise
    return call()
