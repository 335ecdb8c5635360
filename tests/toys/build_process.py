"""A build in a process of its own, to be killed or measured. A failed one says why and exits with 3."""

import json
import resource
import sys
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from speechrows.builds.place import Place
from speechrows.errors import SpeechRowsError
from toys.building import build_rows
from toys.building import build_some_rows
from toys.processes import Forked

ENDED_WITH_AN_ERROR = 3


class ForkedBuild(Forked):
    """A build of `data_dir` into `out`; `options` go to build_rows.

    With `numbers`, only shards of these are built; with `ray_address`, on that cluster.
    """

    def __init__(self, data_dir: Path, out: Path | str, **options: Any) -> None:
        super().__init__(_build, data_dir, out, options)


def _build(data_dir: Path, out: Path | str, options: dict[str, Any]) -> int:
    if limit := options.pop("largest_file", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        if numbers := options.pop("numbers", None):
            build_some_rows(data_dir, Path(out), range(*numbers), **options)
        elif address := options.pop("ray_address", None):
            _build_on_ray(address, data_dir, Path(out), options)
        else:
            build_rows(data_dir, Place.at(str(out)), **options)
    except SpeechRowsError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return ENDED_WITH_AN_ERROR
    # Of this process and of the largest of its workers, in KiB.
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    forkserver._forkserver._stop()  # which has started the workers, and waits for them
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    sys.stdout.write(json.dumps([int(own.split()[1]), workers]))
    return 0


def _build_on_ray(address: str, data_dir: Path, out: Path, options: dict[str, Any]) -> None:
    from speechrows.workers.ray.engine import RayEngine  # noqa: PLC0415  # an extra
    from speechrows.workers.ray.engine import connected  # noqa: PLC0415

    with connected(address):
        build_rows(data_dir, out, engine=RayEngine(), **options)
