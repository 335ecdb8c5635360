"""Who may write in a folder: one build and its workers, or nobody while it is read to be published."""

import fcntl
import os
import time
from collections.abc import Callable
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.folder.layout import STATE

_ORPHANS_END_WITHIN = 10  # seconds after their parent's death; it takes them milliseconds
Tell = Callable[[str], object]
_shared_locks: list[int] = []  # lock descriptors of this process, open until it ends


@contextmanager
def lock(out: Path, name: str, flags: int = os.O_RDWR | os.O_CREAT, tell: Tell = str) -> Generator[None]:
    """Hold a lock of a folder; what a killed build left running is waited for.

    `tell` gets a line where it has to be waited for. The lock's file names the process that holds it.

    Raises:
        UsageError: another build, or who publishes the folder, holds it.
    """
    fd = os.open(out / STATE / name, flags)
    try:
        if not _acquire(fd):
            who = f"another build is writing here{_holder(fd)}, or it is being published"
            tell(printable(f"{out}: {who}: waiting {_ORPHANS_END_WITHIN} s for it to end"))
            deadline = time.monotonic() + _ORPHANS_END_WITHIN
            while not _acquire(fd):
                if time.monotonic() > deadline:
                    raise UsageError(f"{out}: {who}; wait for it to end")
                time.sleep(0.1)
        if flags & os.O_RDWR:
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int) -> bool:
    """Take the lock if it is free; whether this process holds it now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(fd: int) -> str:
    """` (process N)`, which holds the lock; empty where its file names none that lives."""
    pid = os.pread(fd, 20, 0).decode("ascii", "replace")
    return f" (process {pid})" if pid.isdecimal() and os.path.exists(f"/proc/{pid}") else ""


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
