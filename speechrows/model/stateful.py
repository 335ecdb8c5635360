"""Layers that carry a state from step to step: where they stand, and a pass of them."""

from collections.abc import Sequence
from typing import Any
from typing import Protocol

from torch import Tensor
from torch import nn
from transformers import PreTrainedModel

from speechrows.errors import UsageError


class Stateful(Protocol):
    """A layer that carries a state from step to step, such as TTTLinear; it has its own residual and norm."""

    def __call__(self, x: Tensor, *, attention_mask: Tensor, reset: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Map x [B, T, D] and states before it (None: new ones) to y [B, T, D] and states after it."""
        ...


class Reading:
    """One pass over a step: what stateful layers read beside their input, and their states before and after.

    attention_mask and reset are bool [B, T]; `states` has one for each layer, or none: new ones.
    """

    def __init__(
        self, layers: Sequence[Any], attention_mask: Tensor, reset: Tensor, states: Sequence[Any]
    ) -> None:
        self._layers = layers
        self._given = {"attention_mask": attention_mask, "reset": reset}
        self.states = [*states] or [None] * len(layers)
        if len(self.states) != len(layers):
            raise UsageError(f"states: found {len(self.states)}, expected {len(layers)}, one for each layer")

    def __call__(self, number: int, hidden: Tensor) -> Tensor:
        """What a layer, by its number, makes of hidden states [B, T, D]; its state goes on."""
        hidden, self.states[number] = self._layers[number](hidden, **self._given, state=self.states[number])
        return hidden


def blocks_of(lm: PreTrainedModel) -> nn.ModuleList:
    """The blocks of a language model, in order.

    Raises:
        UsageError: it has no list of so many blocks as its config says.
    """
    number = lm.config.get_text_config().num_hidden_layers
    for module in lm.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return module
    raise UsageError(
        f"language model {type(lm).__name__}: found no list of its {number} blocks; expected one, for layers "
        "inside it; above it they can stand"
    )
