"""Generate what follows prompts, token by token, turn after turn of a conversation."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.model.segments import stretches
from speechrows.model.stateful import Reading
from speechrows.types import IGNORE_INDEX

if TYPE_CHECKING:
    from speechrows.model.speech_lm import SpeechLM


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Memory:
    """What a model keeps of R conversations, S slots that it has read; who goes on from it uses it up."""

    cache: DynamicCache
    states: tuple[Any, ...]  # one for each stateful layer
    inside: Tensor  # int64 [R, S], the stretch that each slot attends inside
    real: Tensor  # bool [R, S], False at pads

    @property
    def num_tokens(self) -> Tensor:
        """The tokens of each conversation, int64 [R]: the position that it goes on at."""
        return self.real.sum(1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Generated:
    """What a model has generated for R rows, and what it keeps of them."""

    tokens: list[list[int]]  # of each row, without the end token
    are_cut: list[bool]  # of each row, whether it did not come to its end token
    memory: Memory | None  # prompts, tokens and `then_ids` are read; None without a row
    hidden_states: list[Tensor]  # of each row, [T, D]: of prompt, tokens and `then_ids`


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """When a row ends: at one of `end_ids`, or cut after `max_new_tokens`; `then_ids` are read after it."""

    max_new_tokens: int
    end_ids: Collection[int]
    then_ids: Sequence[int] = ()


class _Reader:
    """Reads on, step by step, in R rows."""

    def __init__(self, model: "SpeechLM", memory: Memory | None, like: Tensor) -> None:
        self._model = model
        empty = like.new_zeros((len(like), 0))
        self.cache = DynamicCache(config=model.lm.config) if memory is None else memory.cache
        self.states: Sequence[Any] = () if memory is None else memory.states
        self.inside = empty if memory is None else memory.inside
        self.real = empty.bool() if memory is None else memory.real
        self._before = self.real.shape[1]
        self._hidden: list[Tensor] = []

    def read(
        self, x: Tensor, real: Tensor, reset: Tensor | None = None, inside: Tensor | None = None
    ) -> Tensor:
        """Read embeddings [R, T, D], by default in the stretch read last; the last slot's hidden states."""
        reset = torch.zeros_like(real) if reset is None else reset
        inside = self.inside[:, -1:].expand(real.shape) if inside is None else inside
        positions = (self.real.sum(1, keepdim=True) + real.cumsum(1) - 1).clamp(min=0)
        self.inside, self.real = (
            torch.cat(pair, dim=1) for pair in ((self.inside, inside), (self.real, real))
        )
        reading = Reading([*self._model.stateful], real, reset, self.states)
        hidden = self._model.read(reading, x, self.inside, self.real, positions, self.cache)
        self.states = reading.states
        self._hidden.append(hidden)
        return hidden[:, -1]

    def read_ids(self, ids: Tensor, are_read: Tensor) -> Tensor:
        """Read ids [R, T] in those rows [R] that read on, pads in the others."""
        return self.read(self._model.lm.get_input_embeddings()(ids), are_read.unsqueeze(1).expand(ids.shape))

    def memory(self) -> Memory:
        return Memory(cache=self.cache, states=tuple(self.states), inside=self.inside, real=self.real)

    def hidden_states(self) -> list[Tensor]:
        hidden, real = torch.cat(self._hidden, dim=1), self.real[:, self._before :]
        return [row[is_real] for row, is_real in zip(hidden, real, strict=True)]


@torch.no_grad()
def generate(
    model: "SpeechLM",
    batch: Batch,
    ending: Ending,
    *,
    rows: slice,
    memory: Memory | None,
    choose: Callable[[Tensor], Tensor],
    on_token: Callable[[int, int], object],
) -> Generated:
    """Generate what follows each row's prompt; see SpeechLM.generate.

    Raises:
        UsageError: the rows are others than those of `memory`, or see _check_window.
    """
    prompts = _prompts(batch)[rows]
    if not prompts:
        return Generated(tokens=[], are_cut=[], memory=memory, hidden_states=[])
    _check_window(model, len(prompts), is_read_on=memory is not None or bool(ending.then_ids))
    reader, hidden = _read_prompts(model, batch, prompts, memory)
    tokens, going = [list[int]() for _ in prompts], [True] * len(prompts)
    for _ in range(ending.max_new_tokens):
        logits = model.logits(hidden)
        logits[:, model.audio_token_id] = -torch.inf  # a placeholder says nothing, and is never supervised
        chosen = choose(logits)
        for i, token in enumerate(chosen.tolist()):
            going[i] = going[i] and token not in ending.end_ids
            if going[i]:
                tokens[i].append(token)
                on_token(i, token)
        if not any(going):
            break
        hidden = reader.read_ids(chosen.unsqueeze(1), torch.tensor(going, device=chosen.device))
    if ending.then_ids:
        ids = torch.tensor([[*ending.then_ids]] * len(prompts), device=hidden.device)
        reader.read_ids(ids, torch.ones_like(ids[:, 0]).bool())
    hidden_states = reader.hidden_states()
    return Generated(tokens=tokens, are_cut=going, memory=reader.memory(), hidden_states=hidden_states)


def _read_prompts(
    model: "SpeechLM", batch: Batch, prompts: list[tuple[int, list[int]]], memory: Memory | None
) -> tuple[_Reader, Tensor]:
    """Read prompts, after what was read before; also the hidden states [R, D] of their last slots.

    Raises:
        UsageError: they are of others than `memory`.
    """
    if memory is not None and len(memory.real) != len(prompts):
        raise UsageError(f"memory: found {len(memory.real)} conversations, expected {len(prompts)}, as rows")
    embeds, inside = model.embed(batch), stretches(batch, model.attention_span)
    x, real, first = left_padded([embeds[sequence, slots] for sequence, slots in prompts])
    inside, *_ = left_padded([inside[sequence, slots] for sequence, slots in prompts])
    if memory is not None:
        own = inside - inside.gather(1, first.long().argmax(1, keepdim=True))
        last = memory.inside.masked_fill(~memory.real, 0).amax(1, keepdim=True)
        inside, first = last + (model.attention_span == "turn") + own, torch.zeros_like(first)
    reader = _Reader(model, memory, inside)
    return reader, reader.read(x, real, first, inside)


def _check_window(model: "SpeechLM", num_rows: int, *, is_read_on: bool) -> None:
    """Check that no pads stand between the turns of rows, where attention counts slots.

    Raises:
        UsageError: it counts slots, and several rows are to be gone on from.
    """
    is_counted = isinstance(model.attention_span, int) or getattr(model.lm.config, "sliding_window", None)
    if num_rows > 1 and is_read_on and is_counted:
        raise UsageError(
            f"generate: found {num_rows} rows to go on from; expected one, where attention counts slots"
        )


def _prompts(batch: Batch) -> list[tuple[int, list[int]]]:
    """For each row, its sequence and the slots of its segment before its first supervised token."""
    labels, segments, real = (t.tolist() for t in (batch.labels, batch.segment_ids, batch.attention_mask))
    prompts: list[tuple[int, list[int]]] = []
    for b, start, stop in batch.row_spans.tolist():
        end = next((slot for slot in range(start, stop) if labels[b][slot] != IGNORE_INDEX), stop)
        slots = [s for s in range(end) if real[b][s] and segments[b][s] == segments[b][start]]
        prompts.append((b, slots))
    return prompts


def left_padded(prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Left-pad prompts [T, …] to [R, T, …]; also bool [R, T]: False at pads, and True at the first tokens."""
    longest = max(len(prompt) for prompt in prompts)
    x = pad_sequence([*prompts], batch_first=True, padding_side="left")
    starts = torch.tensor([longest - len(prompt) for prompt in prompts], device=x.device).unsqueeze(1)
    places = torch.arange(longest, device=x.device)
    return x, places >= starts, places == starts
