"""A model that is divided among ranks: torch's FSDP2.

Ranks gather the weights of a block together just before it runs, and divide its gradients after it. So all
have to run the same blocks equally often: SpeechLM and SpeechEncoder.agree see to that. accelerate has
FSDP2 for accelerators alone; this is the same on CPUs, where tests run.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.fsdp import fully_shard
from torch.export import register_dataclass
from torch.utils._pytree import SUPPORTED_NODES

from speechrows.model.audio_head import AudioLoss
from speechrows.model.omni import Omni
from speechrows.model.omni import OmniOutput
from speechrows.model.speech_lm import SpeechLMOutput
from speechrows.model.tuning import Tuning


def prepared(accelerator: Accelerator, model: Omni, tuning: Tuning) -> tuple[nn.Module, Any]:
    """A model to train, on its device, replicated on each rank or divided among them, and its optimiser."""
    if tuning.shard and accelerator.num_processes > 1:
        shard(model, accelerator, torch.bfloat16 if tuning.is_half else None)
        return model.train(), accelerator.prepare(tuning.optimizer(model))
    if tuning.shard:
        accelerator.print(
            "--shard: found one rank, which has all of the model; expected several: accelerate launch "
            "--num_processes N train.py …"
        )
    return accelerator.prepare(model.train(), tuning.optimizer(model))


def shard(model: Omni, accelerator: Accelerator, dtype: torch.dtype | None = None) -> None:
    """Divide a model among the ranks: block by block, and all that is in no block together.

    Weights are gathered in `dtype`, by default their own.
    """
    for kind in (OmniOutput, SpeechLMOutput, AudioLoss):  # FSDP2 hooks the tensors in a model's output
        if kind not in SUPPORTED_NODES:
            register_dataclass(kind)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(accelerator.device.type, (accelerator.num_processes,)),
        "mp_policy": MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False),
    }
    for block in model.speech_lm.blocks():
        fully_shard(block, **options)
    fully_shard(model, **options)
    model.speech_lm.encoder.agree = lambda calls: _most(calls, accelerator.device)


def _most(number: int, device: torch.device) -> int:
    """The largest of a number of each rank."""
    numbers = torch.tensor(number, device=device)
    distributed.all_reduce(numbers, distributed.ReduceOp.MAX)
    return int(numbers)


@contextmanager
def gathered(model: nn.Module) -> Generator[None]:
    """Have what is in no block whole on every rank, so that parts of a model can be run by themselves."""
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    yield
    model.reshard()
