"""Where a model runs: in this process, or in actors of a cluster, which hold it."""

import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from functools import partial
from typing import Any

from speechrows.errors import UsageError
from speechrows.workers.work import Engine
from speechrows.workers.work import Progress
from speechrows.workers.work import Work

Each = Callable[[Iterable[Any]], Iterator[Any]]  # has jobs done; yields their results in order


def device_of_workers(name: str, engine: Engine) -> str | None:
    """The device of each worker that `--device` asks for: cpu or cuda; None where this process works alone.

    Raises:
        UsageError: the cluster has no such device.
    """
    num_gpus = engine.cluster_gpus
    if num_gpus is None:
        return None
    if name == "auto":
        return "cuda" if num_gpus else "cpu"
    if name not in ("cpu", "cuda"):
        raise UsageError(
            f"--device {name}: expected auto, cpu or cuda; under --engine ray, Ray chooses the GPU"
        )
    if name == "cuda" and not num_gpus:
        raise UsageError("--device cuda: the cluster has no GPU; expected one at least. Give cpu")
    return name


def by_workers(
    engine: Engine, open_model: Callable[[Progress], Callable[[Any], Any]], model: str, device: str
) -> Each:
    """What has jobs done by workers of a cluster, each of which opens the model on its device."""
    work = Work[Any, Any](
        open=open_model,
        died=f"--model {model}: a process that held it died, killed or out of memory",
        name=lambda _: f"--model {model}, a batch",
        paths=[os.path.abspath(model)] if os.path.exists(model) else [],
        holds_model=True,
        num_gpus=int(device == "cuda"),
    )
    return partial(engine.run, work)
