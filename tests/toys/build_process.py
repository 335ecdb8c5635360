"""A build in a process of its own, to be killed or measured. A failed one says why and exits with 3."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is run as a script too

from speechrows.errors import SpeechRowsError
from toys.building import build_rows

ENDED_WITH_AN_ERROR = 3


def start(data_dir: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    """Start building `data_dir` into `out` in a new process group; `options` go to build_rows."""
    arguments = [sys.executable, __file__, str(data_dir), str(out), json.dumps(options)]
    return subprocess.Popen(
        arguments, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _main() -> int:
    data_dir, out, options = sys.argv[1:]
    given = json.loads(options)
    if limit := given.pop("largest_file", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        build_rows(data_dir, Path(out), **given)
    except SpeechRowsError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return ENDED_WITH_AN_ERROR
    # Of this process and of the largest of its workers, in KiB. (Its own ru_maxrss would begin with
    # what the process that started it weighs.)
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    sys.stdout.write(json.dumps([int(own.split()[1]), workers]))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
