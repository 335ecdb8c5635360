"""A remote store is asked again before it is taken to be silent: how often, and after which pauses."""

import time
from collections.abc import Callable
from typing import TypeVar

from speechrows.errors import SpeechRowsError

PAUSES = (0.5, 2.0)  # seconds before a remote store is asked again

T = TypeVar("T")


def retry(read: Callable[[], T], wait: Callable[[float], object] = time.sleep) -> T:
    """What a read of a remote store gives, asked again where it fails; where a file is missing, at once.

    `wait` is called with the seconds of a pause; where it returns true, nobody needs the answer any more.

    Raises:
        Exception: what the last read raised; each store has errors of its own.
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
