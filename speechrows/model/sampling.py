"""Choose a token or a code by its logits: the likeliest, or one that is drawn."""

import torch
from torch import Tensor


def drawn(
    logits: Tensor, temperature: float = 0.0, *, top_p: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """An index int64 [R] for each line of logits [R, C]: of the highest if `temperature` is 0, else drawn.

    With `top_p` below 1, it is drawn from the fewest likeliest ones whose chances make up `top_p`.
    """
    if temperature == 0:
        return logits.argmax(-1)
    chances = (logits.float() / temperature).softmax(-1)
    if top_p < 1:
        ordered, places = chances.sort(-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0  # those before it make up top_p already
        chances = torch.zeros_like(chances).scatter(-1, places, ordered)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]
