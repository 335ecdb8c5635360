"""Attention inside segments, so that packed segments are computed as if each stood alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.masking_utils import create_masks_for_generate
from transformers.masking_utils import packed_sequence_mask_function

from speechrows.errors import UsageError


def segment_mask(lm: PreTrainedModel, embeds: Tensor, segment_ids: Tensor, attention_mask: Tensor) -> Any:
    """The attention mask for the body of `lm`: causal, inside segments, without pads.

    It has the form that the model's attention implementation reads (`sdpa`, `eager`, `flex_attention`), or
    is a mapping with a mask for each kind of layer. Pads are a segment of their own: no token attends to
    them, and they attend to themselves, so that no row of the mask is empty.

    Of `embeds` [B, T, D] only shape, type and device matter; segment_ids are int [B, T] and attention_mask
    bool [B, T], False at pads.
    """
    apart = packed_sequence_mask_function(torch.where(attention_mask, segment_ids, -1))
    return create_masks_for_generate(lm.config, embeds, None, None, and_mask_function=apart)


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
    lm: PreTrainedModel, embeds: Tensor, segment_ids: Tensor, attention_mask: Tensor, position_ids: Tensor
) -> Tensor:
    """The last hidden states [B, T, D] of packed sequences [B, T]."""
    mask = segment_mask(lm, embeds, segment_ids, attention_mask)
    if isinstance(mask, Mapping) and len(mask) == 1:
        (mask,) = mask.values()
    body: Any = lm.base_model
    output = body(inputs_embeds=embeds, attention_mask=mask, position_ids=position_ids, use_cache=False)
    return output.last_hidden_state


def _near(actual: Tensor, expected: Tensor) -> bool:
    """Whether two computations of one value agree to the precision of half-precision weights."""
    difference = (actual.float() - expected.float()).norm()
    return bool(difference <= 0.05 * expected.float().norm())
