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
from speechrows.errors import first_line
from speechrows.loader.batch import Batch

Span = Literal["conversation", "turn"] | int

_FIRST, _SECOND = 13, 9  # tokens of the two segments that a language model is checked on
_ATTENTION = (
    "causal attention without recurrent or convolution layers, attn_implementation sdpa, eager or "
    "flex_attention"
)


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
    """Check on two short segments of random embeddings that packing works with the model's architecture.

    Raises:
        UsageError: segments of a sequence affect one another (recurrent layers, convolutions,
            `flash_attention_2`), or logits are more than a linear layer on the last hidden states.
    """
    was_training = lm.training
    lm.eval()
    try:
        _check_segments(lm)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:  # of layers that take no such mask
        raise _refused(lm, f"does not run on packed segments ({first_line(error)})", _ATTENTION) from error
    finally:
        lm.train(was_training)


def _check_segments(lm: PreTrainedModel) -> None:
    first, second = _probe(lm, _FIRST), _probe(lm, _SECOND)
    packed, is_changed = _second_of_two(lm, first, second)
    if is_changed:
        raise _refused(lm, "the second segment of a packed sequence changes with the first", _ATTENTION)
    body: Any = lm.base_model
    alone = body(inputs_embeds=second).last_hidden_state
    if not _near(packed, alone):
        raise _refused(lm, "a segment differs between a packed sequence and the segment alone", _ATTENTION)
    whole: Any = lm(inputs_embeds=second)
    head: Any = lm.get_output_embeddings()
    if not _near(head(alone), whole.logits, up_to_rounding=True):
        raise _refused(lm, "its logits are scaled or capped, or more than its head gives", "a plain head")


def _second_of_two(lm: PreTrainedModel, first: Tensor, second: Tensor) -> tuple[Tensor, bool]:
    """The hidden states of the second of two packed segments, and whether the first changes them.

    What has none has a gradient of exactly zero, where values may differ in their last bits: those of
    experts depend on how many tokens each is given. Where there is no gradient (flex_attention on a CPU),
    another first segment is put in its place, and values may differ by rounding alone.
    """
    direction = _probe(lm, _SECOND)  # a plain sum of what is normed is constant
    try:
        with torch.enable_grad():
            packed = _packed(lm, first.requires_grad_(), second)
            (gradient,) = torch.autograd.grad((packed * direction).sum(), first)
        return packed.detach(), bool(gradient.count_nonzero())
    except NotImplementedError:
        packed, other = (_packed(lm, before, second) for before in (first.detach(), first.detach().flip(2)))
        return packed, not _near(other, packed, up_to_rounding=True)


def _packed(lm: PreTrainedModel, first: Tensor, second: Tensor) -> Tensor:
    """The hidden states [1, T, D] of the second of two segments in one sequence."""
    embeds = torch.cat((first, second), dim=1)
    places = torch.arange(embeds.shape[1], device=embeds.device).unsqueeze(0)
    segments = (places >= _FIRST).long()
    real = torch.ones_like(places, dtype=torch.bool)
    return hidden_states(lm, embeds, segments, real, places - _FIRST * segments)[:, _FIRST:]


def _probe(lm: PreTrainedModel, num_tokens: int) -> Tensor:
    """Random embeddings [1, T, D] of norm 1, the same each time: ids may be pads, whose embedding is zero."""
    weight: Any = lm.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(num_tokens)
    embeds = torch.randn(1, num_tokens, weight.shape[1], generator=generator) * weight.shape[1] ** -0.5
    return embeds.to(weight)


def _refused(lm: PreTrainedModel, what: str, expected: str) -> UsageError:
    return UsageError(f"language model {type(lm).__name__}: {what}; expected {expected}")


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


def _near(actual: Tensor, expected: Tensor, *, up_to_rounding: bool = False) -> bool:
    """Whether two computations of one value agree to the precision of half-precision weights, or nearer."""
    tolerance = min(0.03, 64 * torch.finfo(actual.dtype).eps) if up_to_rounding else 0.05
    difference = (actual.float() - expected.float()).norm()
    return bool(difference <= tolerance * expected.float().norm())
