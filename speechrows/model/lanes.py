"""Where stateful layers stand in every lane of a run, between steps and in checkpoints."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from speechrows.loader.batch import Batch
from speechrows.model.ttt import TTTState


class Lanes:
    """The states of all lanes of a step, by lane number; a rank moves those of its micro-batches."""

    def __init__(self, layers: Sequence[Any], num_lanes: int) -> None:
        self._layers = layers
        self._states: list[TTTState] = [layer.new_state(num_lanes) for layer in layers]
        self._moved = torch.zeros(num_lanes, dtype=torch.bool)

    def afresh(self) -> "Lanes":
        """As many lanes that read nothing."""
        return Lanes(self._layers, len(self._moved))

    def states(self, batch: Batch) -> tuple[TTTState, ...]:
        """Where the lanes of a batch stand, for SpeechLM.forward; one for each layer."""
        return tuple(state.select(batch.lanes) for state in self._states)

    def keep(self, batch: Batch, states: Sequence[TTTState]) -> None:
        """Keep where the lanes of a batch stand after it."""
        if states:
            self._moved[batch.lanes.cpu()] = True
            self._states = [
                old.replaced(batch.lanes, new) for old, new in zip(self._states, states, strict=True)
            ]

    def state_dict(self, total: Callable[[Tensor], Tensor]) -> list[dict[str, Tensor]]:
        """Every lane as the rank has it that moves it. All ranks call; `total` sums a tensor over them."""
        movers = total(self._moved.long())

        def told(tensor: Tensor) -> Tensor:
            moved = self._moved.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1))
            gathered = total(torch.where(moved, tensor, 0))
            there = movers.to(tensor.device).view_as(moved) > 0
            return torch.where(there, gathered, tensor).cpu()

        return [{name: told(tensor) for name, tensor in state.state_dict().items()} for state in self._states]

    def load_state_dict(self, saved: Sequence[dict[str, Tensor]]) -> None:
        """Go on from saved lanes, whichever ranks move them now."""
        devices = [state.weight.device for state in self._states]
        self._states = [TTTState(**state).to(device) for state, device in zip(saved, devices, strict=True)]
