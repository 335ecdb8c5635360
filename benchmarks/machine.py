"""The machine that a benchmark runs on: its page cache, its disk, and who else is busy on it."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import TypeVar

ROOT = Path(__file__).parent.parent
CGROUP = Path("/sys/fs/cgroup/blkio/speechrows-bench")
Epoch = dict[str, Any]
Result = TypeVar("Result")


class CanNotRunError(Exception):
    """A contender that does not run on this machine, in a line."""


def announce(seconds: float) -> None:
    """Say before it starts how long a benchmark takes; busy machines take several times as long."""
    words = f"{max(10, round(seconds, -1)):.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"
    print(f"about {words} on two idle cores\n", flush=True)


def run(command: list[str], before: Callable[[], None] | None = None) -> Epoch:
    """What a process told as JSON in its last line, if anything; `before` runs in it first.

    Raises:
        CanNotRunError: it ended with an error.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, preexec_fn=before
    )
    if done.returncode:
        raise CanNotRunError(last_line(done.stderr) or f"it ended with exit code {done.returncode}")
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}


def last_line(errors: str) -> str:
    """What a traceback ends with."""
    return next((line.strip() for line in reversed(errors.splitlines()) if line.strip()), "")[:200]


def others_share(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` gives, and the share of all cores' time that others took meanwhile."""
    before = _busy(), sum(os.times()[:4]), time.perf_counter()
    result = work()
    own = sum(os.times()[:4]) - before[1]
    return result, (_busy() - before[0] - own) / (time.perf_counter() - before[2]) / (os.cpu_count() or 1)


def _busy() -> float:
    """Seconds that the cores did not idle, nor wait for a disk."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def made_once(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, which `write` has filled, now or in an earlier run that came to the end of it."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write(partial)
        partial.rename(folder)
    return folder


def warm(folder: Path) -> None:
    """Into the page cache."""
    for path in folder.resolve().rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 22):
                    pass


def forget(folder: Path) -> None:
    """Out of the page cache, so that it is read from the disk."""
    for path in folder.rglob("*.parquet"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def throttle(disk: Path, megabytes: int) -> bool:
    """Holds what joins CGROUP to so many MB a second of the disk's reads, where the kernel lets us."""
    device = os.stat(disk).st_dev
    try:
        CGROUP.mkdir(exist_ok=True)
        limit = f"{os.major(device)}:{os.minor(device)} {megabytes * 1_000_000}"
        (CGROUP / "blkio.throttle.read_bps_device").write_text(limit)
    except OSError:
        return False
    return True


def join() -> None:
    (CGROUP / "cgroup.procs").write_text(str(os.getpid()))
