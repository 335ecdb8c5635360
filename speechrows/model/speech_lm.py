"""SpeechLM: a speech encoder, a projector and a causal language model that reads frames as tokens.

Every `<audio>` placeholder is replaced by the projection of `frames_per_token` frames, in order.
"""

from collections import Counter
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers import PreTrainedModel

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.model.encoders.base import SpeechEncoder
from speechrows.model.frozen import FrozenInEval
from speechrows.model.generation import Ending
from speechrows.model.generation import Generated
from speechrows.model.generation import Memory
from speechrows.model.generation import generate
from speechrows.model.sampling import drawn
from speechrows.model.segments import Span
from speechrows.model.segments import check_language_model
from speechrows.model.segments import hidden_states
from speechrows.model.segments import stretches
from speechrows.model.stateful import Reading
from speechrows.model.stateful import blocks_of
from speechrows.types import IGNORE_INDEX

SLOTS_AT_ONCE = 1024  # whose logits are held; more are made part by part


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpeechLMOutput:
    """The output of a forward pass. The loss is a sum: divide it once, over all micro-batches and ranks."""

    loss_sum: Tensor  # float32 [], cross entropy over the supervised tokens
    num_supervised: Tensor  # int64 []
    before: Tensor  # [num_supervised, D], hidden states of the slots before the supervised ones, row-major
    targets: Tensor  # int64 [num_supervised], the supervised tokens
    token_losses: Tensor  # float32 [num_supervised], their cross entropies, without a gradient
    hidden_states: Tensor  # [B, T, D], the input of the head
    states: tuple[Any, ...]  # one for each stateful layer


class SpeechLM(FrozenInEval):
    """A speech encoder of encoders/ and a causal language model of transformers.

    `stateful` layers stand between the language model's last norm and its head; `insert` adds others. The
    language model attends inside the attention span; stateful layers read whole conversations.

    Raises:
        UsageError: the encoder's frames do not divide into `audio_tokens_per_second`; see also
            check_language_model.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        lm: PreTrainedModel,
        *,
        audio_tokens_per_second: Fraction,
        audio_token_id: int,
        stateful: Sequence[nn.Module] = (),
        attention_span: Span = "conversation",
    ) -> None:
        super().__init__()
        self.frames_per_token = encoder.frames_per_token(audio_tokens_per_second)
        check_language_model(lm)
        self.audio_token_id = audio_token_id
        width: Any = lm.get_input_embeddings().embedding_dim
        self.encoder = encoder
        self.projector = nn.Sequential(
            nn.Linear(self.frames_per_token * encoder.hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )
        self.lm = lm
        self.attention_span: Span = attention_span
        self.stateful = nn.ModuleList(stateful)
        self._above = [*range(len(stateful))]  # the numbers of those that stand above the language model
        self._reading: Reading | None = None  # while the language model runs

    def insert(self, layer: nn.Module, *, before_block: int | None) -> None:
        """Add a stateful layer before a block of the language model, counted from 0; None: above it.

        Raises:
            UsageError: the language model has no such block.
        """
        number = len(self.stateful)
        self.stateful.append(layer)
        if before_block is None:
            self._above.append(number)
            return
        blocks = blocks_of(self.lm)
        if not 0 <= before_block < len(blocks):
            raise UsageError(
                f"block: found {before_block}, expected one of the language model's: 0 to {len(blocks) - 1}"
            )
        # A method, not a function that holds this model: a copy of the model then calls its own.
        hook = partial(self._before_block, number)
        blocks[before_block].register_forward_pre_hook(hook, with_kwargs=True)

    def blocks(self) -> list[nn.Module]:
        """The language model's and the encoder's: each is computed again, or divided among ranks, alone."""
        return [*blocks_of(self.lm), *self.encoder.blocks()]

    def _before_block(
        self, number: int, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Let a block have what a stateful layer makes of its input."""
        assert self._reading is not None
        if arguments:
            return (self._reading(number, arguments[0]), *arguments[1:]), named
        return arguments, {**named, "hidden_states": self._reading(number, named["hidden_states"])}

    def forward(self, batch: Batch, states: Sequence[Any] = ()) -> SpeechLMOutput:
        """The loss and its logits. Whatever the batch holds, the loss depends on every parameter.

        Args:
            batch: without a sequence, a pad is read in its place, and without a clip, silence: all ranks run
                all modules, and wait for each other's gradients.
            states: the states of the batch's lanes, one for each stateful layer; () for new ones.

        Raises:
            UsageError: a row has more or fewer placeholders than audio tokens.
        """
        is_idle = not len(batch.input_ids)
        if is_idle:  # of no lane: a pad's state is a new one
            batch, states = _one_pad(batch), ()
        reading = Reading([*self.stateful], batch.attention_mask, batch.reset, states)
        inside = stretches(batch, self.attention_span)
        embeds, real = self.embed(batch), batch.attention_mask
        hidden = self.read(reading, embeds, inside, real, batch.position_ids)
        supervised = batch.labels[:, 1:] != IGNORE_INDEX  # no segment's first slot is
        targets = batch.labels[:, 1:][supervised]
        before = hidden[:, :-1][supervised]
        losses = self._losses(before, targets)
        return SpeechLMOutput(
            loss_sum=losses.sum(),
            num_supervised=supervised.sum(),
            before=before,
            targets=targets,
            token_losses=losses.detach(),
            hidden_states=hidden,
            states=() if is_idle else tuple(reading.states),
        )

    def generate(
        self,
        batch: Batch,
        *,
        max_new_tokens: int,
        end_ids: Collection[int],
        rows: slice = slice(None),
        memory: Memory | None = None,
        then_ids: Sequence[int] = (),
        choose: Callable[[Tensor], Tensor] = drawn,
        on_token: Callable[[int, int], object] | None = None,
    ) -> Generated:
        """Generate what follows each row's prompt, up to one of `end_ids`; by default the likeliest tokens.

        A prompt is the part of the row's segment in the batch before the row's first supervised token.

        Args:
            batch: rows of which R are gone on from.
            max_new_tokens: of each row.
            end_ids: the tokens that end a row.
            rows: which of the batch, by default all.
            memory: what was kept of R conversations that the prompts go on from, which is used up; without it
                stateful layers begin in their first state.
            then_ids: read after a row's last token, whether it has ended or is cut: what ends a turn.
            choose: tokens int64 [R] by logits [R, vocabulary].
            on_token: called with each token as it comes: the row's number, and the token.

        Raises:
            UsageError: the memory is of other rows; or several rows are to be gone on from, and attention
                counts slots.
        """
        ending = Ending(max_new_tokens=max_new_tokens, end_ids=end_ids, then_ids=then_ids)
        on_token = on_token or (lambda *_: None)
        return generate(self, batch, ending, rows=rows, memory=memory, choose=choose, on_token=on_token)

    def embed(self, batch: Batch) -> Tensor:
        """Embeddings [B, T, D] of the tokens, frames in place of the placeholders."""
        embeds = self.lm.get_input_embeddings()(batch.input_ids)
        is_audio = batch.input_ids == self.audio_token_id
        _check_placeholders(batch, is_audio)
        frames = self.encoder(batch, self.frames_per_token)
        audio = self.projector(frames.reshape(-1, self.frames_per_token * frames.shape[1]))
        return embeds.masked_scatter(is_audio.unsqueeze(-1), audio.to(embeds.dtype))

    def read(
        self,
        reading: Reading,
        embeds: Tensor,
        inside: Tensor,  # int64 [B, S], the stretch that each slot attends inside, with those of the cache
        real: Tensor,  # bool [B, S]
        position_ids: Tensor,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """The hidden states [B, T, D] below the head; the reading has the states after them."""
        window = self.attention_span if isinstance(self.attention_span, int) else None
        self._reading = reading
        hidden = hidden_states(self.lm, embeds, inside, real, position_ids, window=window, cache=cache)
        self._reading = None
        for number in self._above:
            hidden = reading(number, hidden)
        return hidden

    def _losses(self, before: Tensor, targets: Tensor) -> Tensor:
        """The cross entropies of supervised tokens, float32 [num_supervised].

        Of many slots logits are made part by part, and again in the backward pass: a vocabulary of 128 000
        takes half a megabyte a slot.
        """
        parts = [*zip(before.split(SLOTS_AT_ONCE), targets.split(SLOTS_AT_ONCE), strict=True)]
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._losses_of_part(*part) for part in parts])
        return torch.cat([checkpoint(self._losses_of_part, *part, use_reentrant=False) for part in parts])

    def _losses_of_part(self, before: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(self.logits(before).float(), targets, reduction="none")

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits [N, vocabulary] of hidden states [N, D]."""
        head: Any = self.lm.get_output_embeddings()
        return head(hidden)


def _one_pad(batch: Batch) -> Batch:
    """A batch of a pad, in the place of none: it has no label."""
    slot = batch.input_ids.new_zeros(1, 1)
    return replace(
        batch,
        input_ids=slot,
        labels=slot + IGNORE_INDEX,
        attention_mask=slot.bool(),
        segment_ids=slot.int() - 1,
        position_ids=slot,
        reset=slot.bool(),
    )


def _check_placeholders(batch: Batch, is_audio: Tensor) -> None:
    """Check on the host that each row has its clip's audio tokens; the device is waited for once."""
    before = functional.pad(is_audio.flatten().cumsum(0), (1, 0))
    spans = batch.row_spans.to(is_audio.device, non_blocking=True)
    first = spans[:, 0] * is_audio.shape[1]
    placeholders = (before[first + spans[:, 2]] - before[first + spans[:, 1]]).tolist()
    expected: Counter[int] = Counter()
    for row, tokens in zip(batch.clip_row.tolist(), batch.num_audio_tokens.tolist(), strict=True):
        expected[row] += tokens
    for row, row_id in enumerate(batch.row_ids):
        if placeholders[row] != expected[row]:
            raise UsageError(
                f"{row_id}: found {placeholders[row]} audio placeholders, expected the {expected[row]} audio "
                "tokens of its clip: give the model the tokenizer of the built folder"
            )
