"""Encoders of raw speech: wav2vec 2.0 and its family.

They lose the last frame to convolutions without padding: a clip is extended by the samples that they need.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from speechrows.model.encoders.base import SAMPLING_RATE
from speechrows.model.encoders.base import Padded
from speechrows.model.encoders.base import SpeechEncoder
from speechrows.model.encoders.base import is_filled


class WaveFrames(SpeechEncoder):
    """WavLM, HuBERT, wav2vec 2.0 and the like, on speech [N, S] at 16 kHz.

    With `normalize`, each clip is first given mean 0 and variance 1, as the model's feature extractor says.
    """

    mel = None
    max_frames = None

    def __init__(self, model: PreTrainedModel, *, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.normalize = normalize
        config: Any = model.config
        # The loader augments; a layer that is skipped would have no gradient, which DDP waits for.
        config.apply_spec_augment = False
        config.layerdrop = 0.0
        for unused in self._never_trained():
            unused.requires_grad_(False)
        self.hidden_size = config.hidden_size
        self.steps_per_frame, reach = 1, 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            self.steps_per_frame *= stride
            reach = (reach - 1) * stride + kernel
        self.overlap = reach - self.steps_per_frame  # samples that the last frame reads beyond its own
        self.frames_per_second = Fraction(SAMPLING_RATE, self.steps_per_frame)
        self._norms_over_time = config.feat_extract_norm == "group"

    def _never_trained(self) -> Sequence[nn.Parameter]:
        mask = getattr(self.model, "masked_spec_embed", None)
        return [mask] if isinstance(mask, nn.Parameter) else []

    def _length_class(self, length: int) -> int:
        # Where the first convolution is normed over time, pads would change every frame.
        return length if self._norms_over_time else super()._length_class(length)

    def _encode(self, chunks: Padded) -> Tensor:
        audio, lengths = chunks.audio, chunks.lengths
        if self.normalize:
            audio = _normalised(audio, chunks.num_samples)
        audio = functional.pad(audio.to(self.dtype), (0, self.overlap))
        mask = None
        if min(lengths) < max(lengths):
            samples = [length * self.steps_per_frame + self.overlap for length in lengths]
            mask = is_filled(samples, audio).long()
        return self.model(audio, attention_mask=mask).last_hidden_state


def _normalised(speech: Tensor, lengths: Tensor) -> Tensor:
    """Clips [W, S] of so many samples [W], each given mean 0 and variance 1, zeros after it."""
    lengths = lengths.unsqueeze(1)
    real = torch.arange(speech.shape[1], device=speech.device) < lengths
    centred = torch.where(real, speech - (speech * real).sum(1, keepdim=True) / lengths, 0.0)
    variance = centred.square().sum(1, keepdim=True) / lengths
    return centred / (variance + 1e-7).sqrt()
