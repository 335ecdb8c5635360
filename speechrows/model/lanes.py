"""The states of stateful layers in every lane of a run, between steps and in checkpoints."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from speechrows.loader.batch import Batch
from speechrows.model.ttt import TTTState


class Lanes:
    """The states of all lanes of a step, by lane number; a rank updates those of its micro-batches."""

    def __init__(self, layers: Sequence[Any], num_lanes: int) -> None:
        self._layers = layers
        self._states: list[TTTState] = [layer.new_state(num_lanes) for layer in layers]
        self._updated = torch.zeros(num_lanes, dtype=torch.bool)

    def afresh(self) -> "Lanes":
        """As many lanes in their first state."""
        return Lanes(self._layers, len(self._updated))

    def states(self, batch: Batch) -> tuple[TTTState, ...]:
        """The states of a batch's lanes, one for each layer; for SpeechLM.forward."""
        return tuple(state.select(batch.lanes) for state in self._states)

    def keep(self, batch: Batch, states: Sequence[TTTState]) -> None:
        """Keep the states of a batch's lanes after it, with their graph: see `detach`."""
        if states:
            self._updated[batch.lanes.cpu()] = True
            self._states = [
                old.replaced(batch.lanes, new) for old, new in zip(self._states, states, strict=True)
            ]

    def detach(self) -> None:
        """Let the gradient of what is read later end here."""
        self._states = [state.detach() for state in self._states]

    def state_dict(self, total: Callable[[Tensor], Tensor]) -> list[dict[str, Tensor]]:
        """The state of every lane, from the rank that updates it. All ranks call; `total` sums over ranks."""
        num_ranks = total(self._updated.long())  # that update each lane: 1 or none

        def gather(tensor: Tensor) -> Tensor:
            updated = self._updated.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1))
            summed = total(torch.where(updated, tensor, 0))
            is_updated = num_ranks.to(tensor.device).view_as(updated) > 0
            return torch.where(is_updated, summed, tensor).cpu()

        return [
            {name: gather(tensor) for name, tensor in state.state_dict().items()} for state in self._states
        ]

    def load_state_dict(self, saved: Sequence[Mapping[str, Tensor]]) -> None:
        """Load the states of every lane, whichever ranks update them now."""
        devices = [state.weight.device for state in self._states]
        self._states = [TTTState(**state).to(device) for state, device in zip(saved, devices, strict=True)]
