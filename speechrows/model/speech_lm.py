"""SpeechLM: a speech encoder, a projector and a causal language model that reads frames as tokens.

Every `<audio>` placeholder is replaced by the projection of `frames_per_token` frames, in order.
"""

from collections import Counter
from collections.abc import Collection
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from typing import Protocol

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.model.encoder import SpeechEncoder
from speechrows.model.segments import check_language_model
from speechrows.model.segments import hidden_states
from speechrows.types import IGNORE_INDEX


class Stateful(Protocol):
    """A layer that carries a state from step to step, such as TTTLinear; it has its own residual and norm."""

    def __call__(self, x: Tensor, *, attention_mask: Tensor, reset: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Map x [B, T, D] and states before it (None: new ones) to y [B, T, D] and states after it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpeechLMOutput:
    """The output of a forward pass. The loss is a sum: divide it once, over all micro-batches and ranks."""

    loss_sum: Tensor  # float32 [], cross entropy over the supervised tokens
    num_supervised: Tensor  # int64 []
    logits: Tensor  # [num_supervised, vocabulary], row-major, of the slots before the supervised ones
    targets: Tensor  # int64 [num_supervised], the supervised tokens
    hidden_states: Tensor  # [B, T, D], the input of the head
    states: tuple[Any, ...]  # one for each stateful layer


class SpeechLM(nn.Module):
    """A speech encoder of encoder.py and a causal language model of transformers.

    `stateful` layers stand between the language model's last norm and its head.

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
    ) -> None:
        super().__init__()
        stacked = encoder.frames_per_second / audio_tokens_per_second
        if stacked.denominator != 1:
            raise UsageError(
                f"audio tokens per second: found {float(audio_tokens_per_second)}, expected a whole "
                f"fraction of the encoder's {float(encoder.frames_per_second)} frames a second, such as "
                "25, 12.5 or 10"
            )
        check_language_model(lm)
        self.frames_per_token = stacked.numerator
        self.audio_token_id = audio_token_id
        width: Any = lm.get_input_embeddings().embedding_dim
        self.encoder = encoder
        self.projector = nn.Sequential(
            nn.Linear(self.frames_per_token * encoder.hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )
        self.lm = lm
        self.stateful = nn.ModuleList(stateful)

    def forward(self, batch: Batch, states: Sequence[Any] = ()) -> SpeechLMOutput:
        """The loss and its logits; without a sequence the loss is zero, but depends on every parameter.

        Args:
            batch: if it has no clip, the encoder's parameters take part with weight zero.
            states: the states of the batch's lanes, one for each stateful layer; () for new ones.

        Raises:
            UsageError: a row has more or fewer placeholders than audio tokens.
        """
        if not len(batch.input_ids):
            return self._nothing(batch)
        hidden = hidden_states(
            self.lm, self._embed(batch), batch.segment_ids, batch.attention_mask, batch.position_ids
        )
        hidden, after = self._carried(hidden, batch.attention_mask, batch.reset, states)
        supervised = batch.labels[:, 1:] != IGNORE_INDEX  # no segment's first slot is
        targets = batch.labels[:, 1:][supervised]
        logits = self._logits(hidden[:, :-1][supervised])
        loss = functional.cross_entropy(logits.float(), targets, reduction="sum")
        return SpeechLMOutput(
            loss_sum=loss if len(batch.num_audio_tokens) else loss + weightless(self.encoder, self.projector),
            num_supervised=supervised.sum(),
            logits=logits,
            targets=targets,
            hidden_states=hidden,
            states=after,
        )

    @torch.no_grad()
    def generate(self, batch: Batch, *, max_new_tokens: int, end_ids: Collection[int]) -> list[list[int]]:
        """Decode what follows each row's prompt, greedily: ids without the end token, a list for each row.

        A prompt is the part of the row's segment in the batch before the row's first supervised token;
        stateful layers begin it in their first state.
        """
        if not len(batch):
            return []
        embeds = self._embed(batch)
        prompts = [embeds[sequence, slots] for sequence, slots in _prompts(batch)]
        x, real, reset = _left_padded(prompts)
        mask, positions = real, (real.cumsum(1) - 1).clamp(min=0)
        body: Any = self.lm.base_model
        cache: Any = None
        states: tuple[Any, ...] = ()
        generated: list[list[int]] = [[] for _ in prompts]
        going = set(range(len(prompts)))
        for _ in range(max_new_tokens):
            seen = {"attention_mask": mask, "position_ids": positions, "past_key_values": cache}
            step = body(inputs_embeds=x, use_cache=True, **seen)
            cache = step.past_key_values
            hidden, states = self._carried(step.last_hidden_state, real, reset, states)
            chosen = self._logits(hidden[:, -1]).argmax(-1)
            tokens = chosen.tolist()
            going -= {i for i in going if tokens[i] in end_ids}
            if not going:
                break
            for i in going:
                generated[i].append(tokens[i])
            x = self.lm.get_input_embeddings()(chosen).unsqueeze(1)
            real, reset = torch.ones_like(real[:, :1]), torch.zeros_like(real[:, :1])
            mask, positions = torch.cat((mask, real), dim=1), positions[:, -1:] + 1
        return generated

    def _embed(self, batch: Batch) -> Tensor:
        """Embeddings [B, T, D] of the tokens, frames in place of the placeholders."""
        embeds = self.lm.get_input_embeddings()(batch.input_ids)
        is_audio = batch.input_ids == self.audio_token_id
        _check_placeholders(batch, is_audio)
        if not len(batch.num_audio_tokens):
            return embeds
        frames = self.encoder(batch, self.frames_per_token)
        audio = self.projector(frames.reshape(-1, self.frames_per_token * frames.shape[1]))
        return embeds.masked_scatter(is_audio.unsqueeze(-1), audio.to(embeds.dtype))

    def _carried(
        self, hidden: Tensor, attention_mask: Tensor, reset: Tensor, states: Sequence[Any]
    ) -> tuple[Tensor, tuple[Any, ...]]:
        after: list[Any] = []
        for layer, state in zip(self.stateful, states or [None] * len(self.stateful), strict=True):
            hidden, new_state = layer(hidden, attention_mask=attention_mask, reset=reset, state=state)
            after.append(new_state)
        return hidden, tuple(after)

    def _logits(self, hidden: Tensor) -> Tensor:
        head: Any = self.lm.get_output_embeddings()
        return head(hidden)

    def _nothing(self, batch: Batch) -> SpeechLMOutput:
        head: Any = self.lm.get_output_embeddings()
        hidden = head.weight.new_zeros(*batch.input_ids.shape, head.weight.shape[1])
        return SpeechLMOutput(
            loss_sum=weightless(self),
            num_supervised=batch.labels.new_zeros(()),
            logits=head.weight.new_zeros(0, len(head.weight)),
            targets=batch.labels.new_zeros(0),
            hidden_states=hidden,
            states=(),
        )


def weightless(*modules: nn.Module) -> Tensor:
    """Zero, float32 [], with a zero gradient for every parameter, since DDP waits for all of them."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return sum((p.flatten()[0].float() * 0.0 for p in parameters), torch.zeros(()))


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


def _prompts(batch: Batch) -> list[tuple[int, list[int]]]:
    """For each row, its sequence and the slots of its segment before its first supervised token."""
    labels, segments, real = (t.tolist() for t in (batch.labels, batch.segment_ids, batch.attention_mask))
    prompts: list[tuple[int, list[int]]] = []
    for b, start, stop in batch.row_spans.tolist():
        end = next((slot for slot in range(start, stop) if labels[b][slot] != IGNORE_INDEX), stop)
        slots = [s for s in range(end) if real[b][s] and segments[b][s] == segments[b][start]]
        prompts.append((b, slots))
    return prompts


def _left_padded(prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Left-pad prompts [T, D] to [R, T, D]; also bool [R, T]: False at pads, and True at the first tokens."""
    longest = max(len(prompt) for prompt in prompts)
    x = torch.stack([functional.pad(prompt, (0, 0, longest - len(prompt), 0)) for prompt in prompts])
    starts = torch.tensor([longest - len(prompt) for prompt in prompts], device=x.device).unsqueeze(1)
    places = torch.arange(longest, device=x.device)
    return x, places >= starts, places == starts
