"""Tensors that FSDP2 divides among ranks, whole and in shares."""

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor import distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor, gathered where it is divided among ranks: then all of them call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor that every rank has whole, divided as another one is, and on its device."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
