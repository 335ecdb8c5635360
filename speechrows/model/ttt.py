"""A test-time-training layer: its state is a linear model a head, trained on the tokens it reads.

For each token the layer sees a key k, a value v, a query q and a learned rate. The inner model z(k) =
k W + b is trained by gradient descent on |LN(z(k)) - (v - k)|^2 / 2 and asked with q: the output is
q + LN(z(q)). All gradients of a mini-batch are taken at the W, b with which it began, so token i has
W - c_i (the sum over j <= i of rate_j gradient_j), c_i = 1/i as learned, and a mini-batch is a few
matrix products with a causal mask (the dual form). Only mini-batches follow one another in a loop.

Mini-batches are laid out so that cuts and pads change nothing: ttt_layout.py.
"""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields

import torch
from torch import Tensor
from torch import nn
from torch.utils.checkpoint import checkpoint

from speechrows.errors import UsageError
from speechrows.model.divided import whole
from speechrows.model.ttt_layout import Layout
from speechrows.model.ttt_layout import lay_out

_EPSILON = 1e-6
_ROPE_BASE = 10000.0
_FIRST_GATE = 0.1
_FIRST_DEVIATION = 0.02  # of weights


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TTTState:
    """The state that L lanes carry: H heads of width d, mini-batches of K, tokens of width D.

    `weight` and `bias` are those after the lane's last full mini-batch. It is saved as `state_dict()`
    and restored as `TTTState(**saved)`; a lane is identified by its index alone.
    """

    weight: Tensor  # [L, H, d, d], float32 or, for float64 inputs, float64
    bias: Tensor  # [L, H, d], of the same type
    carried: Tensor  # [L, K, D], the inputs of the unfinished mini-batch, then zeros; of the same type
    num_carried: Tensor  # int64 [L], below K

    def __len__(self) -> int:
        return len(self.num_carried)

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors by name, row i for lane i."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def detach(self) -> "TTTState":
        """The state without its graph."""
        return self._each(Tensor.detach)

    def to(self, device: torch.device | str) -> "TTTState":
        """The state on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def select(self, lanes: Tensor) -> "TTTState":
        """The state of some lanes, int64 [B], in their order."""
        return self._each(lambda tensor: tensor[lanes])

    def replaced(self, lanes: Tensor, state: "TTTState") -> "TTTState":
        """The state with the lanes int64 [B] replaced by the B lanes of `state`."""
        new = state.state_dict()
        return TTTState(
            **{name: tensor.index_copy(0, lanes, new[name]) for name, tensor in self.state_dict().items()}
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "TTTState":
        return TTTState(**{name: change(tensor) for name, tensor in self.state_dict().items()})


class TTTLinear(nn.Module):
    """TTT-Linear with its norm and its residual, to stand between the layers of a language model.

    Its output is x + gate * projection. Put into a trained model, it changes little at first, by a gate
    that begins small; a projection that begins at zero would teach the layer below it nothing, and then
    nothing is recalled for hundreds of steps.

    `mini_batch` is the number of tokens of a mini-batch, `base_learning_rate` what the learned rates are
    a share of. With a `checkpoint` of N, what N mini-batches compute is not kept: the backward pass computes
    it again, from the state before them. With 0 all of it is kept.

    Raises:
        UsageError: `hidden_size` does not divide into heads of an even width.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        mini_batch: int = 64,
        base_learning_rate: float = 1.0,
        checkpoint: int = 0,
    ) -> None:
        super().__init__()
        if hidden_size % (2 * num_heads):
            raise UsageError(
                f"hidden_size: found {hidden_size}, expected a multiple of {2 * num_heads}:"
                f" {num_heads} heads of an even width"
            )
        width = hidden_size // num_heads
        self.num_heads = num_heads
        self.mini_batch = mini_batch
        self.checkpoint = checkpoint
        self.base_learning_rate = base_learning_rate / width
        self.norm = nn.RMSNorm(hidden_size, eps=_EPSILON)
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, hidden_size, bias=False)
        self.rate = nn.Linear(hidden_size, num_heads)
        self.first_weight = nn.Parameter(torch.empty(num_heads, width, width))
        self.first_bias = nn.Parameter(torch.zeros(num_heads, width))
        # An offset from 1/i: at first, what is learnt of i tokens is their mean.
        self.position_offset = nn.Parameter(torch.zeros(mini_batch))
        self.inner_norm_weight = nn.Parameter(torch.ones(num_heads, width))
        self.inner_norm_bias = nn.Parameter(torch.zeros(num_heads, width))
        self.output_norm = nn.LayerNorm(hidden_size, eps=_EPSILON)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)
        self.gate = nn.Parameter(torch.full((hidden_size,), _FIRST_GATE))
        for layer in (self.query, self.key, self.value, self.rate):
            nn.init.normal_(layer.weight, std=_FIRST_DEVIATION)
        nn.init.normal_(self.output.weight, std=hidden_size**-0.5)  # its output is as large as its input
        nn.init.normal_(self.first_weight, std=_FIRST_DEVIATION)
        nn.init.zeros_(self.rate.bias)

    def new_state(self, num_lanes: int) -> TTTState:
        """The state of lanes that have read nothing."""
        first_weight, first_bias = whole(self.first_weight), whole(self.first_bias)
        dtype = torch.promote_types(first_weight.dtype, torch.float32)
        size = (num_lanes, self.mini_batch, self.query.in_features)
        return TTTState(
            weight=first_weight.to(dtype).repeat(num_lanes, 1, 1, 1),
            bias=first_bias.to(dtype).repeat(num_lanes, 1, 1),
            carried=first_weight.new_zeros(size, dtype=dtype),
            num_carried=torch.zeros(num_lanes, dtype=torch.int64, device=first_weight.device),
        ).detach()

    def forward(
        self, x: Tensor, *, attention_mask: Tensor, reset: Tensor, state: TTTState | None = None
    ) -> tuple[Tensor, TTTState]:
        """Read a step of B lanes; a slot's output depends on its conversation up to there.

        Args:
            x: [B, T, D]. Pads may hold anything and come out as they are.
            attention_mask: bool [B, T], False at pads.
            reset: bool [B, T], True where a conversation begins: the state is reset there. At a pad it
                holds for the token after it.
            state: the states of the lanes, or None for first states.

        Returns:
            y [B, T, D] of x's type, and the states of the lanes after it, with their graph: detach them
            where the gradient is to end.

        Raises:
            UsageError: the state is of another number of lanes or of another layer.
        """
        if state is None:
            state = self.new_state(len(x))
        size = (len(x), self.mini_batch, x.shape[2])
        if state.carried.shape != size:
            raise UsageError(f"state: found one of shape {[*state.carried.shape]}, expected {[*size]}")
        layout = lay_out(state.num_carried, attention_mask, reset, self.mini_batch)
        tokens = layout.packed(torch.cat((state.carried.to(x.dtype), x), dim=1))  # [B, M, K, D]
        outputs, weight, bias = self._learn(tokens, layout, state)
        read = layout.unpacked(outputs)[:, self.mini_batch :].to(self.output_norm.weight.dtype)
        added = self.gate * self.output(self.output_norm(read))
        added = added.masked_fill(~attention_mask.unsqueeze(-1), 0.0)
        after = TTTState(
            weight=weight,
            bias=bias,
            carried=layout.unfinished(tokens).to(weight.dtype),
            num_carried=layout.num_left,
        )
        return x + added.to(x.dtype), after

    def _learn(self, tokens: Tensor, layout: Layout, state: TTTState) -> tuple[Tensor, Tensor, Tensor]:
        """The heads' outputs [B, M, K, D], and the W, b that each lane ends with."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        normed = self.norm(tokens.to(self.norm.weight.dtype))
        query, key, value = (
            # [B, M, K, D] as [M, B, H, K, d]
            layer(normed).to(dtype).unflatten(-1, (self.num_heads, -1)).permute(1, 0, 3, 2, 4)
            for layer in (self.query, self.key, self.value)
        )
        gate = self.rate(normed).to(dtype).permute(1, 0, 3, 2)  # [M, B, H, K]
        with torch.autocast(tokens.device.type, enabled=False):
            rate = self.base_learning_rate * gate.sigmoid()
            heads, weight, bias = self._scan(_rotate(query), _rotate(key), value, rate, layout, state)
        return heads.permute(1, 0, 3, 2, 4).flatten(-2), weight, bias

    def _scan(
        self, query: Tensor, key: Tensor, value: Tensor, rate: Tensor, layout: Layout, state: TTTState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The heads' outputs [M, B, H, K, d], and the W, b that each lane ends with."""
        dtype, together = key.dtype, self.checkpoint or len(key)
        weight, bias = state.weight.to(dtype), state.bias.to(dtype)
        flags = (of.T[:, :, None, None] for of in (layout.fresh, layout.full))  # [M, B, 1, 1]
        outputs: list[Tensor] = []
        for part in zip(*(of.split(together) for of in (query, key, value, rate, *flags)), strict=True):
            if self.checkpoint and torch.is_grad_enabled():
                output, weight, bias = checkpoint(
                    self._read, part, weight, bias, use_reentrant=False, preserve_rng_state=False
                )
            else:
                output, weight, bias = self._read(part, weight, bias)
            outputs.append(output)
        emptied = layout.emptied[:, None, None]
        weight = torch.where(emptied.unsqueeze(-1), self.first_weight.to(dtype), weight)
        bias = torch.where(emptied, self.first_bias.to(dtype), bias)
        return torch.cat(outputs), weight, bias

    def _read(self, part: Sequence[Tensor], weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The heads' outputs [m, B, H, K, d] for a part of m mini-batches, and the W, b after it."""
        query, key, value, rate, fresh, full = part
        dtype, size = key.dtype, self.mini_batch
        places = torch.arange(1, size + 1, dtype=dtype, device=key.device)
        scale = (1 / places + self.position_offset.to(dtype)).clamp(min=0)
        scale_of_all = scale[-1]
        first_weight, first_bias = self.first_weight.to(dtype), self.first_bias.to(dtype)
        answers: list[Tensor] = []
        steps: list[Tensor] = []
        # Unbound, not indexed: the gradient of each index would be as large as the whole.
        columns = (of.unbind() for of in (query, key, value - key, rate, fresh, full))
        for q, k, target, eta, is_fresh, is_full in zip(*columns, strict=True):
            weight = torch.where(is_fresh.unsqueeze(-1), first_weight, weight)
            bias = torch.where(is_fresh, first_bias, bias)
            answers.append(q @ weight + bias.unsqueeze(-2))
            guess = k @ weight + bias.unsqueeze(-2)
            step = eta.unsqueeze(-1) * self._gradient(guess, target)
            steps.append(step)
            taught = weight - scale_of_all * k.transpose(-1, -2) @ step
            weight = torch.where(is_full.unsqueeze(-1), taught, weight)
            bias = torch.where(is_full, bias - scale_of_all * step.sum(-2), bias)
        seen = (scale.unsqueeze(-1) * (query @ key.transpose(-1, -2) + 1)).tril()  # [m, B, H, K, K]
        answer, _ = _normed(torch.stack(answers) - seen @ torch.stack(steps))
        return query + self._scaled(answer), weight, bias

    def _gradient(self, answer: Tensor, target: Tensor) -> Tensor:
        """The gradient of |LN(answer) - target|^2 / 2 by the answer, all [B, H, K, d]."""
        normed, deviation = _normed(answer)
        inner = (self._scaled(normed) - target) * self.inner_norm_weight.to(answer.dtype).unsqueeze(-2)
        mean = inner.mean(-1, keepdim=True)
        return (inner - mean - normed * (inner * normed).mean(-1, keepdim=True)) / deviation

    def _scaled(self, normed: Tensor) -> Tensor:
        weight, bias = self.inner_norm_weight.unsqueeze(-2), self.inner_norm_bias.unsqueeze(-2)
        return normed * weight.to(normed.dtype) + bias.to(normed.dtype)


def _normed(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise x to mean 0 and deviation 1 along the last axis; also return the deviation."""
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + _EPSILON).sqrt()
    return centred / deviation, deviation


def _rotate(x: Tensor) -> Tensor:
    """Rotary positions: [..., K, d], turned by the place in the mini-batch."""
    size, half = x.shape[-2], x.shape[-1] // 2
    places = torch.arange(size, dtype=x.dtype, device=x.device)
    angles = places[:, None] * _ROPE_BASE ** -(torch.arange(half, dtype=x.dtype, device=x.device) / half)
    low, high = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)
