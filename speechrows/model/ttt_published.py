"""Weights of a published TTT-Linear layer (github.com/test-time-training/ttt-lm-pytorch) in a layer of ours.

Theirs rotates pairs of neighbours, dimensions 2i and 2i + 1 of a head; ours rotates i and i + d / 2. The
order of a head's dimensions is free, so all that has a dimension of a head is put into our order.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from speechrows.errors import UsageError
from speechrows.model.ttt import TTTLinear

# Of one layer, without the prefix of its place in the model; the norm before it is its block's.
_NAMES = {
    "seq_norm.weight": "norm.weight",
    "seq_modeling_block.q_proj.weight": "query.weight",
    "seq_modeling_block.k_proj.weight": "key.weight",
    "seq_modeling_block.v_proj.weight": "value.weight",
    "seq_modeling_block.o_proj.weight": "output.weight",
    "seq_modeling_block.learnable_ttt_lr_weight": "rate.weight",
    "seq_modeling_block.learnable_ttt_lr_bias": "rate.bias",
    "seq_modeling_block.learnable_token_idx": "position_offset",
    "seq_modeling_block.ttt_norm_weight": "inner_norm_weight",
    "seq_modeling_block.ttt_norm_bias": "inner_norm_bias",
    "seq_modeling_block.W1": "first_weight",
    "seq_modeling_block.b1": "first_bias",
    "seq_modeling_block.post_norm.weight": "output_norm.weight",
    "seq_modeling_block.post_norm.bias": "output_norm.bias",
}
# The dimensions [H * d] or [d] that are a head's, by the parameter's axes.
_AXES_OF_HEADS = {
    "query.weight": (0,),
    "key.weight": (0,),
    "value.weight": (0,),
    "output.weight": (1,),
    "output_norm.weight": (0,),
    "output_norm.bias": (0,),
    "inner_norm_weight": (1,),
    "inner_norm_bias": (1,),
    "first_weight": (1, 2),
    "first_bias": (1,),
}
_VARIANTS = ("g_proj", "conv_q", "conv_k", "W2", "b2")


def load_published(layer: TTTLinear, saved: Mapping[str, Tensor], prefix: str = "") -> None:
    """Give a layer the weights of a published one, whose names in `saved` begin with `prefix`.

    `prefix` is that of its block, such as `model.layers.3.`. The layer is then as the published one and its
    norm and residual: its gate is open.

    Raises:
        UsageError: a weight is missing or of another shape, or it is a variant of the layer: gated, with
            convolutions, TTT-MLP.
    """
    names = {name.removeprefix(prefix) for name in saved if name.startswith(prefix)}
    variants = [name for name in sorted(names) if any(part in name.split(".") for part in _VARIANTS)]
    missing = sorted({*_NAMES} - names)
    if variants or missing:
        raise UsageError(
            f"published layer {prefix or 'without a prefix'}: found {', '.join(variants) or 'no variant'}, "
            f"missing {', '.join(missing) or 'nothing'}; expected a plain TTT-Linear, every weight of it"
        )
    own = dict(layer.named_parameters())
    width = own["first_weight"].shape[-1]
    order = torch.arange(width).view(-1, 2).T.flatten()  # theirs in our order
    of_all = (torch.arange(layer.num_heads)[:, None] * width + order).flatten()
    with torch.no_grad():
        for published, name in _NAMES.items():
            weight = saved[prefix + published]
            if weight.numel() != own[name].numel():
                raise UsageError(
                    f"{prefix}{published}: found shape {[*weight.shape]}, expected {[*own[name].shape]}: "
                    "give the layer its width, heads and mini-batch"
                )
            weight = weight.reshape(own[name].shape)
            for axis in _AXES_OF_HEADS.get(name, ()):
                places = order if weight.shape[axis] == width else of_all
                weight = weight.index_select(axis, places.to(weight.device))
            own[name].copy_(weight)
        layer.gate.fill_(1.0)
