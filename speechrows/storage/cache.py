"""Files that take long to make, kept beside those of datasets: HF_DATASETS_CACHE says where."""

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from datasets import config

from speechrows.errors import UsageError

_ABANDONED_S = 3600  # a file that a process was writing so long ago was left by one that was killed

T = TypeVar("T")


def cached(name: str, read: Callable[[Path], T], write: Callable[[Path], None]) -> T:
    """What `read` makes of a file of the cache, which is written where there is none that it can read.

    `read` raises OSError, ValueError or EOFError where it can not. Whoever else writes the same file
    meanwhile, a whole one is read.

    Raises:
        UsageError: what it is made from can not be read, or the cache not be written.
    """
    folder = Path(config.HF_DATASETS_CACHE) / "speechrows"
    with contextlib.suppress(OSError, ValueError, EOFError):  # none there, or one that a power cut spoilt
        return read(folder / name)
    temporary = folder / f"{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.tmp"):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink(missing_ok=True)
        write(temporary)
        temporary.replace(folder / name)
    except OSError as error:
        raise UsageError(
            f"{folder}: found {error.strerror or error} while {name} was made there; expected files that can "
            "be read, and a cache that can be written: HF_DATASETS_CACHE says where it is"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # as a rule it is gone; or there is no such folder
            temporary.unlink()
    return read(folder / name)
