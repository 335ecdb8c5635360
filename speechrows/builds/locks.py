"""Who may write in a folder: one build and its workers, or nobody while it is read to be published."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from speechrows.errors import UsageError
from speechrows.folder.layout import STATE

_ORPHANS_END_WITHIN = 10  # seconds after their parent's death; it takes them milliseconds
_shared_locks: list[int] = []  # lock descriptors of this process, open until it ends


@contextmanager
def lock(out: Path, name: str, flags: int = os.O_RDWR | os.O_CREAT) -> Generator[None]:
    """Hold a lock of a folder; what a killed build left running is waited for.

    Raises:
        UsageError: another build, or who publishes the folder, holds it.
    """
    fd = os.open(out / STATE / name, flags)
    deadline = time.monotonic() + _ORPHANS_END_WITHIN
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"{out}: another build is writing here, or it is being published; wait for it to end"
                    ) from None
                time.sleep(0.1)
        yield
    finally:
        os.close(fd)


def share_lock(out: Path) -> None:
    """Lock the folder as a worker, until this process ends.

    The caller then looks whether its parent lives: from there on no other build can start.

    Raises:
        UsageError: another build has taken the folder since.
    """
    fd = os.open(out / STATE / "workers", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{out}: another build is writing here") from None
    _shared_locks.append(fd)
