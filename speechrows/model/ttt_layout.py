"""Where the tokens of lanes stand in the mini-batches of a test-time-training layer.

Tokens are grouped without pads, and each conversation begins a mini-batch. Where a step ends inside
one, its tokens so far are carried and computed again before the next step's, so wherever a
conversation is cut into steps, it gets the outputs of one piece.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """Where the S slots of each lane, K carried ones and a step's T, stand in its M mini-batches.

    A mini-batch is fresh if it begins a conversation, and full if none of its K slots is empty. Empty
    slots come last in a mini-batch, so no token sees them, and no state learns from them.
    """

    size: int  # K
    place: Tensor  # int64 [B, S], mini-batch * K + slot; M * K, which is nowhere, for pads
    fresh: Tensor  # bool [B, M]
    full: Tensor  # bool [B, M]
    last: Tensor  # int64 [B], the mini-batch that a lane ends in
    num_left: Tensor  # int64 [B], the tokens in that mini-batch, 0 if it is full
    emptied: Tensor  # bool [B], whether a conversation begins after the last token

    def packed(self, slots: Tensor) -> Tensor:
        """[B, S, D] as [B, M, K, D], zeros where there is no token."""
        places = self.place.unsqueeze(-1).expand_as(slots)
        zeros = slots.new_zeros(len(slots), self.full.shape[1] * self.size + 1, slots.shape[2])
        return zeros.scatter(1, places, slots)[:, :-1].unflatten(1, (-1, self.size))

    def unpacked(self, packed: Tensor) -> Tensor:
        """[B, M, K, D] as [B, S, D], anything at pads."""
        flat = packed.flatten(1, 2)
        places = self.place.clamp(max=flat.shape[1] - 1)
        return flat.gather(1, places.unsqueeze(-1).expand(-1, -1, flat.shape[2]))

    def unfinished(self, packed: Tensor) -> Tensor:
        """The tokens [B, K, D] of the last mini-batch, then zeros; zeros alone if it is full."""
        tokens = packed[torch.arange(len(packed), device=packed.device), self.last]
        slots = torch.arange(self.size, device=packed.device)
        return tokens.masked_fill((slots >= self.num_left[:, None]).unsqueeze(-1), 0.0)


def lay_out(num_carried: Tensor, attention_mask: Tensor, reset: Tensor, size: int) -> Layout:
    """Lay out int64 [B] carried tokens and a step, bool [B, T] both, in mini-batches of `size` tokens."""
    carried = torch.arange(size, device=reset.device) < num_carried[:, None]
    real = torch.cat((carried, attention_mask), dim=1)
    begins = torch.cat((torch.zeros_like(carried), reset), dim=1)
    tokens = real.cumsum(1)
    before = torch.where(begins, tokens - real.long(), 0).cummax(1).values  # tokens before the conversation
    nth = tokens - 1 - before
    opens = real & (nth % size == 0)
    mini_batch = opens.cumsum(1) - 1
    last = mini_batch[:, -1].clamp(min=0)
    num = max(last.tolist(), default=0) + 1  # the one value that the host waits for
    place = torch.where(real, mini_batch * size + nth % size, num * size)

    slots = torch.zeros(len(place), num * size + 1, dtype=torch.bool, device=place.device)
    length = tokens[:, -1] - before[:, -1]  # of the last conversation
    return Layout(
        size=size,
        place=place,
        fresh=slots.scatter(1, place, (nth == 0) & (begins.cumsum(1) > 0))[:, :-1:size],
        full=slots.scatter(1, place, real)[:, size - 1 : -1 : size],
        last=last,
        num_left=length % size,
        emptied=(length == 0) & begins.any(1),
    )
