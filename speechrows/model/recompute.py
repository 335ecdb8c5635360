"""Gradient checkpointing: a block keeps its input alone, and the backward pass computes it again."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(block: nn.Module) -> None:
    """Let a block keep its input alone for the backward pass.

    transformers' own way runs a block's hooks again with it. Here they stay outside: what a stateful layer
    makes of the input, and weights that are gathered from other ranks.
    """
    forward: Any = partial(_run, block.forward)
    block.forward = forward


def _run(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
