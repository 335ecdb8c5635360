"""The processes of a run, and what accelerate may do with them."""

from pathlib import Path

from accelerate import Accelerator

from speechrows.errors import UsageError


def open_accelerator(folder: Path, mixed_precision: str, log_with: str) -> Accelerator:
    """Accelerate's view of this process; trackers write below `folder`.

    Raises:
        UsageError: the tracker is not installed, or accelerate is set to shard the model.
    """
    accelerator = Accelerator(mixed_precision=mixed_precision, log_with=log_with or None, project_dir=folder)
    if log_with and not accelerator.log_with:
        raise UsageError(f"--log-with: {log_with} is not there: pip install {log_with}")
    if accelerator.distributed_type.name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise UsageError("accelerate: found a sharded model; expected data parallel, each rank's model whole")
    return accelerator
