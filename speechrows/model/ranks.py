"""The processes of a run, and what accelerate may do with them."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from speechrows.errors import UsageError
from speechrows.model.model_folder import read_flags


def total(accelerator: Accelerator, values: Tensor) -> Tensor:
    """Values summed over ranks, on their device."""
    summed: Any = accelerator.reduce(values.to(accelerator.device), reduction="sum")
    return summed


def start_tracker(accelerator: Accelerator, folder: Path, config: Any) -> None:
    """Start the run's tracker, and tell it the config, a dataclass, in plain values.

    Raises:
        UsageError: the tracker does not start, say because it knows no account.
    """
    plain = {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in vars(config).items()
    }
    try:
        accelerator.init_trackers("speechrows", config=plain, init_kwargs={"wandb": {"dir": str(folder)}})
    except Exception as error:  # each tracker has errors of its own
        accelerator.trackers.clear()  # what has not started can not be ended
        raise UsageError(
            f"--log-with: the tracker does not start: {error}. Log in to it, or leave it out"
        ) from error


def open_accelerator(folder: Path, log_with: str) -> Accelerator:
    """Accelerate's view of this process; trackers write below `folder`.

    Its precision is the same for all of a process' runs; so a run's is torch's autocast.

    Raises:
        UsageError: the tracker is not installed, or accelerate is set to shard the model.
    """
    accelerator = Accelerator(mixed_precision="no", log_with=log_with or None, project_dir=folder)
    if log_with and not accelerator.log_with:
        raise UsageError(f"--log-with: {log_with} is not there: pip install {log_with}")
    if (kind := accelerator.distributed_type.name) in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise UsageError(
            f"accelerate: is set to {kind}; expected plain data parallel: --shard divides a model among ranks"
        )
    return accelerator


def num_micro_batches(given: int, accelerator: Accelerator, resumed: Path | None) -> int:
    """The micro-batches of a step: those that are given, else the resumed run's, else as many as ranks.

    Ranks that would have none are told of.
    """
    ranks = accelerator.num_processes
    before = read_flags(resumed).get("micro_batches") if resumed and not given else None
    number = given or before or ranks
    if idle := -number % ranks:
        accelerator.print(
            f"{idle} of {ranks} ranks have nothing to do for a part of each step: {number} micro-batches are "
            f"divided among them; a multiple of {ranks} keeps all busy (--micro-batches)"
        )
    return number
