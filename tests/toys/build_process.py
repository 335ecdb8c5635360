"""A build in a process of its own, to be killed or measured. A failed one says why and exits with 3."""

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is run as a script too

from speechrows.builds.place import Place
from speechrows.errors import SpeechRowsError
from toys.building import build_rows
from toys.building import build_some_rows

ENDED_WITH_AN_ERROR = 3
_TESTS = Path(__file__).parents[1]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["toys.build_process"])


def start(data_dir: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    """Start building `data_dir` into `out` in a new process; `options` go to build_rows."""
    arguments = [sys.executable, __file__, str(data_dir), str(out), json.dumps(options)]
    return subprocess.Popen(arguments, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class ForkedBuild:
    """A build in a process group of its own, forked from a server that has imported all: in no time.

    Its methods are those of Popen. What it weighs is not its own: `start` is for that.
    """

    def __init__(self, data_dir: Path, out: Path | str, **options: Any) -> None:
        self._errors = tempfile.NamedTemporaryFile("r")  # noqa: SIM115  # closed with this object
        arguments = (self._errors.name, str(data_dir), str(out), json.dumps(options))
        self._process = _server.Process(target=_build_in_group, args=arguments)
        before = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(_TESTS), str(_TESTS.parent), before])
        try:
            self._process.start()  # the first starts the server, which finds its imports by the variable
        finally:
            os.environ["PYTHONPATH"] = before
        self.pid: int = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def kill(self, *, group: bool) -> None:
        """Kill it, or all of its group; what has ended is gone."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Nothing, and what it said of an error."""
        assert self.wait(timeout) is not None
        return "", self._errors.read()


def _build_in_group(errors: str, *arguments: str) -> None:
    os.setsid()
    os.dup2(os.open(errors, os.O_WRONLY), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(_main(*arguments))


def _main(data_dir: str, out: str, options: str) -> int:
    keywords = json.loads(options)
    if limit := keywords.pop("largest_file", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        if numbers := keywords.pop("numbers", None):
            build_some_rows(Path(data_dir), Path(out), range(*numbers), **keywords)
            return 0
        if address := keywords.pop("ray_address", None):
            _build_on_ray(address, data_dir, out, keywords)
            return 0
        build_rows(data_dir, Place.at(out), **keywords)
    except SpeechRowsError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        return ENDED_WITH_AN_ERROR
    # Of this process and of the largest of its workers, in KiB. (Its own ru_maxrss would begin with
    # what the process that started it weighs.)
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    sys.stdout.write(json.dumps([int(own.split()[1]), workers]))
    return 0


def _build_on_ray(address: str, data_dir: str, out: str, keywords: dict[str, Any]) -> None:
    from speechrows.workers.ray.engine import RayEngine  # noqa: PLC0415  # an extra
    from speechrows.workers.ray.engine import connected  # noqa: PLC0415

    with connected(address):
        build_rows(data_dir, Path(out), engine=RayEngine(), **keywords)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
