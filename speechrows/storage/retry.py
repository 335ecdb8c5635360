"""Retry policy for remote stores: attempts and back-off."""

import time
from collections.abc import Callable
from typing import TypeVar

from speechrows.errors import SpeechRowsError

PAUSES = (0.5, 2.0)  # seconds between attempts

T = TypeVar("T")


def retry(read: Callable[[], T], wait: Callable[[float], object] = time.sleep) -> T:
    """Return `read()`, retried after each of PAUSES if it fails; a missing file is not retried.

    `wait` is called with the seconds of a pause; if it returns true, the result is no longer needed.

    Raises:
        Exception: the error of the last attempt; each store has errors of its own.
    """
    for pause in PAUSES:
        try:
            return read()
        except (FileNotFoundError, SpeechRowsError):  # an answer
            raise
        except Exception:
            if wait(pause):
                raise
    return read()
