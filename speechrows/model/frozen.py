"""Parts of a model that are not trained."""

from typing import Self

from torch import nn


class FrozenInEval(nn.Module):
    """A module in which what has no trained parameter stays as in eval(): a frozen part has no dropout."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts, but of frozen ones."""
        super().train(mode)
        if mode:
            _still(self)
        return self


def _still(module: nn.Module) -> None:
    for part in module.children():
        are_trained = [parameter.requires_grad for parameter in part.parameters()]
        if are_trained and not any(are_trained):
            part.eval()
        else:
            _still(part)
