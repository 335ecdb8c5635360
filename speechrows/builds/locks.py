"""Who may write in a folder: a build and its workers, or nobody while it is read to be published.

Several runs may build shards of their own at once: then they share the build's lock.
"""

import fcntl
import multiprocessing
import os
import platform
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


@contextmanager
def lock(
    out: Path,
    name: str,
    flags: int = os.O_RDWR | os.O_CREAT,
    tell: Tell = str,
    kind: int = fcntl.LOCK_EX,
    address: str = "",
) -> Generator[None]:
    """Hold a lock of a folder, alone or shared (LOCK_SH); what a killed build left running is waited for.

    `tell` gets a line where it has to be waited for, which calls the folder by its `address`, if it has one.
    The lock's file names the process that holds it.

    Raises:
        UsageError: another build, or who publishes the folder, holds it.
    """
    fd = os.open(out / STATE / name, flags)
    try:
        if not _acquire(fd, kind):
            who = f"another build is writing here{_holder(fd)}, or it is being published"
            tell(printable(f"{address or out}: {who}: waiting {_ORPHANS_END_WITHIN} s for it to end"))
            deadline = time.monotonic() + _ORPHANS_END_WITHIN
            while not _acquire(fd, kind):
                if time.monotonic() > deadline:
                    raise UsageError(f"{address or out}: {who}; wait for it to end")
                time.sleep(0.1)
        if flags & os.O_RDWR:
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, kind: int) -> bool:
    """Take the lock if it is free; whether this process holds it now."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(fd: int) -> str:
    """` (process N)`, which holds the lock; empty where its file names none that lives."""
    pid = os.pread(fd, 20, 0).decode("ascii", "replace")
    return f" (process {pid})" if pid.isdecimal() and os.path.exists(f"/proc/{pid}") else ""


@contextmanager
def build_lock(out: Path, tell: Tell, *, is_shared: bool, address: str = "") -> Generator[None]:
    """Hold the lock of a build, alone or with others that build shards of their own.

    There are two locks: the build's, and one that its workers share. A build of all shards takes the second
    for a moment too: while an orphan of a killed build lives, the next one waits or is refused rather than
    mixed in. (One lock for both would be let go when it is changed from the build's alone to shared: flock
    does not do that in one step.)

    Raises:
        UsageError: another build holds it.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    with lock(out, "lock", tell=tell, kind=kind, address=address):
        if not is_shared:
            with lock(out, "workers", tell=tell, address=address):
                pass
        yield


@contextmanager
def worker_lock(out: Path) -> Generator[None]:
    """Share the lock of a build's workers while one of them builds a shard.

    A worker whose parent is dead ends here: the next build may have begun before it held the lock. (Of a
    cluster, workers have no parent; it ends those of a dead build itself.)

    Raises:
        UsageError: another build has taken the folder since, or this machine does not see it.
    """
    try:
        fd = os.open(out / STATE / "workers", os.O_RDWR)
    except FileNotFoundError as error:
        raise UsageError(
            f"{out}: holds no build, as {platform.node()} sees it; expected a disk that all workers see. "
            "Give an --out on one"
        ) from error
    try:
        if not _acquire(fd, fcntl.LOCK_SH):
            raise UsageError(f"{out}: another build is writing here")
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)
        yield
    finally:
        os.close(fd)


@contextmanager
def one_after_another(out: Path) -> Generator[None]:
    """Have a moment alone among runs that share the build's lock; waits for its turn."""
    fd = os.open(out / STATE / "claim", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
