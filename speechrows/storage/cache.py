"""Cache of files that take long to make, in `speechrows` of HF_DATASETS_CACHE."""

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from speechrows.errors import UsageError

_ABANDONED_S = 3600  # a temporary file of this age was left by a process that was killed

T = TypeVar("T")


def cache_folder() -> Path:
    """The folder of the cache; it may not be there yet."""
    from datasets import config  # noqa: PLC0415  # half a second: a loader that caches nothing does without

    return Path(config.HF_DATASETS_CACHE) / "speechrows"


def cached(name: str, read: Callable[[Path], T], write: Callable[[Path], None]) -> T:
    """Return `read(cached file)`; write the file first if it is missing or unreadable.

    A file is unreadable if `read` raises OSError, ValueError or EOFError. Other processes may write the
    same file at the same time: it is always whole.

    Raises:
        UsageError: `write` can not read what it needs, or the cache can not be written.
    """
    folder = cache_folder()
    with contextlib.suppress(OSError, ValueError, EOFError):  # missing, or spoilt by a power cut
        return read(folder / name)
    temporary = folder / f"{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.tmp"):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)
        write(temporary)
        temporary.replace(folder / name)
    except OSError as error:
        raise UsageError(
            f"{folder}: found {error.strerror or error} while {name} was made there; expected files that can "
            "be read, and a cache that can be written: HF_DATASETS_CACHE says where it is"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # as a rule it was moved; or there is no such folder
            temporary.unlink()
    return read(folder / name)
