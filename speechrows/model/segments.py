"""Attention inside segments, so that packed segments are computed as if each stood alone.

How far a token sees inside its conversation is the attention span: all of it, its own turn, or so many
slots. Stateful layers read the whole conversation, whatever the span: what a language model can not see,
they have to recall.
"""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.masking_utils import and_masks
from transformers.masking_utils import create_masks_for_generate
from transformers.masking_utils import sliding_window_overlay

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch

Span = Literal["conversation", "turn"] | int


def parse_span(text: str) -> Span:
    """Parse `conversation`, `turn` or a number of slots.

    Raises:
        UsageError: it is none of these.
    """
    if text in ("conversation", "turn"):
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"attention span: found {text!r}, expected conversation, turn or a number of slots")


def stretches(batch: Batch, span: Span) -> Tensor:
    """The stretch that each slot attends inside, int64 [B, T]: its segment, or its row, -1 outside of any."""
    if span != "turn":
        return batch.segment_ids.long()
    rows = torch.full(batch.input_ids.shape, -1)
    for row, (sequence, start, stop) in enumerate(batch.row_spans.tolist()):
        rows[sequence, start:stop] = row
    return rows.to(batch.input_ids.device)


def segment_mask(
    lm: PreTrainedModel,
    embeds: Tensor,
    segment_ids: Tensor,
    attention_mask: Tensor,
    *,
    window: int | None = None,
    cache: Cache | None = None,
) -> Any:
    """The attention mask for the body of `lm`: causal, inside segments, without pads.

    It has the form that the model's attention implementation reads (`sdpa`, `eager`, `flex_attention`), or
    is a mapping with a mask for each kind of layer. Pads are a segment of their own: no token attends to
    them, and they attend to themselves, so that no row of the mask is empty.

    Of `embeds` [B, T, D] only shape, type and device matter; segment_ids are int [B, T] and attention_mask
    bool [B, T], False at pads. With a `window`, a token sees so many slots, its own among them. With a
    `cache` that has the slots before, segment_ids and attention_mask are of these and the step's.
    """
    apart = _apart(torch.where(attention_mask, segment_ids, -1))
    if window is not None:
        apart = and_masks(apart, sliding_window_overlay(window))
    return create_masks_for_generate(lm.config, embeds, None, cache, and_mask_function=apart)


def _apart(segment_ids: Tensor) -> Callable[..., Tensor]:
    """What transformers' packed_sequence_mask_function computes, in a seventh of its time.

    Its brackets become, inside of transformers' vmap, a function with gradients: milliseconds a mask, however
    small, which is as long as a step of a small model takes. The operator itself has a rule for vmap.
    """

    def of_one_segment(batch: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        index: Any = torch.ops.aten.index
        return index(segment_ids, [batch, query]) == index(segment_ids, [batch, key])

    return of_one_segment


@torch.no_grad()
def check_language_model(lm: PreTrainedModel) -> None:
    """Check on three tokens that packing works with the model's architecture.

    Raises:
        UsageError: segments of a sequence affect one another (recurrent layers, `flash_attention_2`), or
            logits are more than a linear layer on the last hidden states.
    """
    ids = torch.tensor([[0, 1, 2]], device=lm.device)
    segments, positions = ids.clamp(max=1), (ids - 1).clamp(min=0)
    was_training = lm.training
    lm.eval()
    embeds = lm.get_input_embeddings()(ids)
    packed = hidden_states(lm, embeds, segments, torch.ones_like(ids).bool(), positions)
    alone: Any = lm(inputs_embeds=embeds[:, 1:])
    lm.train(was_training)
    head: Any = lm.get_output_embeddings()
    if not _near(head(packed[:, 1:]), alone.logits):
        raise UsageError(
            f"language model {type(lm).__name__}: its logits of a segment differ between a packed sequence "
            "and the segment alone, or are scaled after its head; expected causal attention without "
            "recurrent layers, attn_implementation sdpa, eager or flex_attention, and a plain head"
        )


def hidden_states(
    lm: PreTrainedModel,
    embeds: Tensor,
    segment_ids: Tensor,
    attention_mask: Tensor,
    position_ids: Tensor,
    *,
    window: int | None = None,
    cache: Cache | None = None,
) -> Tensor:
    """The last hidden states [B, T, D] of packed sequences [B, T]; for the arguments see segment_mask.

    A `cache` takes in the step's slots.
    """
    mask = segment_mask(lm, embeds, segment_ids, attention_mask, window=window, cache=cache)
    if isinstance(mask, Mapping) and len(mask) == 1:
        (mask,) = mask.values()
    body: Any = lm.base_model
    given: dict[str, Any] = {"attention_mask": mask, "position_ids": position_ids}
    if cache is not None:  # said as None, some versions of transformers warn of it
        given["past_key_values"] = cache
    output = body(inputs_embeds=embeds, use_cache=cache is not None, **given)
    return output.last_hidden_state


def _near(actual: Tensor, expected: Tensor) -> bool:
    """Whether two computations of one value agree to the precision of half-precision weights."""
    difference = (actual.float() - expected.float()).norm()
    return bool(difference <= 0.05 * expected.float().norm())
