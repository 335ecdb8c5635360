"""A process of its own for a test, forked from one that has imported what it needs: it is there in no time.

What it weighs begins with what it was forked with.
"""

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import tempfile
import textwrap
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["toys.building", "deepdialogue_ttt"])


class Forked:
    """A call of a function in a process group of its own; its methods are those of Popen."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._printed = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115  # closed with it
        names = [file.name for file in self._printed]
        self._process = _server.Process(target=_begin, args=(names, {**os.environ}, function, *arguments))
        before = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(_TESTS), str(_TESTS.parent), before])
        try:
            self._process.start()  # the first starts the server, which finds its imports by the variable
        finally:
            os.environ["PYTHONPATH"] = before
        self.pid: int = self._process.pid or 0
        weakref.finalize(self, _end, self._process)  # a test that fails may leave it stopped

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def kill(self, *, group: bool = False) -> None:
        """Kill it, or all of its group; what has ended is gone."""
        with contextlib.suppress(ProcessLookupError):
            (_signal_group if group else os.kill)(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it printed, and what it said of an error; one that does not end in time says where it is."""
        ended = self.wait(timeout) is not None
        if not ended:
            _signal_group(self.pid, signal.SIGABRT)  # each process of it tells its stacks, and ends
            self.wait(10)
        output, errors = (file.read() for file in self._printed)
        assert ended, f"it goes on after {timeout} s. It has printed: {output}{errors}"
        return output, errors


def _end(process: Any) -> None:
    if process.is_alive():
        _signal_group(process.pid, signal.SIGKILL)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # it has not come to make a group yet
        os.kill(pid, number)


def _begin(
    printed: list[str], environment: dict[str, str], function: Callable[..., Any], *arguments: Any
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    faulthandler.enable(2)
    for fd, name in enumerate(printed, start=1):
        os.dup2(os.open(name, os.O_WRONLY), fd)
    sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))  # noqa: SIM115
    sys.exit(function(*arguments))


def start_python(code: str, *arguments: str | Path) -> Forked:
    """Start `python -c code arguments`."""
    return Forked(_execute, textwrap.dedent(code), *map(str, arguments))


def run_python(code: str, *arguments: str | Path) -> str:
    """What `python -c code arguments` prints; it has to end well."""
    process = start_python(code, *arguments)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output


def _execute(code: str, *arguments: str) -> None:
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<code of a test>", "exec"), {"__name__": "__main__"})
