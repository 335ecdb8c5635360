"""The trained model: a SpeechLM, and an AudioHead where rows have codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import nn
from transformers import PreTrainedTokenizerFast

from speechrows.codec import CODECS
from speechrows.loader.batch import Batch
from speechrows.model.audio_head import AudioHead
from speechrows.model.audio_head import AudioLoss
from speechrows.model.presets import PRESETS
from speechrows.model.presets import speech_lm
from speechrows.model.shape import ModelShape
from speechrows.model.speech_lm import SpeechLM
from speechrows.model.speech_lm import SpeechLMOutput


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OmniOutput:
    """The losses of a batch: of its text, and of its codes if the model has an audio head."""

    text: SpeechLMOutput
    codec: AudioLoss | None

    def losses(self) -> Tensor:
        """float32 [3]: summed cross entropies of text, of codebook 0, of the other codebooks."""
        text = self.text.loss_sum
        zero = torch.zeros_like(text)
        codes = (zero, zero) if self.codec is None else (self.codec.semantic_sum, self.codec.depth_sum)
        return torch.stack((text, *codes))


def loss_counts(batch: Batch) -> Tensor:
    """float32 [3]: the tokens or codes in each of a batch's losses; known before a forward pass."""
    if batch.codec_targets is None:
        return torch.tensor([batch.num_supervised, 0, 0], dtype=torch.float32)
    clips, num_codebooks, _ = batch.codec_targets.shape
    frames = int(batch.codec_lengths.sum())
    return torch.tensor(
        [batch.num_supervised, frames + clips, frames * (num_codebooks - 1)], dtype=torch.float32
    )


class Omni(nn.Module):
    """A SpeechLM and its AudioHead in one forward pass, so that one wrapper (DDP) has all parameters."""

    def __init__(self, speech_lm: SpeechLM, audio_head: AudioHead | None) -> None:
        super().__init__()
        self.speech_lm = speech_lm
        self.audio_head = audio_head

    def forward(self, batch: Batch, states: Sequence[Any] = ()) -> OmniOutput:
        """Run SpeechLM.forward, then AudioHead.forward."""
        text = self.speech_lm(batch, states)
        codec = None if self.audio_head is None else self.audio_head(text.hidden_states, batch)
        return OmniOutput(text=text, codec=codec)


def omni(shape: ModelShape, tokenizer: PreTrainedTokenizerFast, codec: str | None = None) -> Omni:
    """The model of a shape, with a head for `codec`.

    Raises:
        UsageError: a model can not be opened, or has no block that a layer is to stand before.
    """
    preset = PRESETS[shape.preset]
    model = speech_lm(preset, tokenizer, attention=shape.attention)
    head: Any = model.lm.get_output_embeddings()
    width, heads = int(head.in_features), int(model.lm.config.num_attention_heads)
    model.attention_span = shape.span
    for block in shape.places:
        model.insert(shape.ttt(width, heads), before_block=block)
    if codec is None:
        return Omni(model, None)
    spec = CODECS[codec]
    return Omni(model, AudioHead(spec, lm_size=width, size=preset.head_size, depth_size=preset.depth_size))
