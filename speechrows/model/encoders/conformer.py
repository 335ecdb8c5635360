"""Conformers on log-mel features of their own kind, computed here from speech: W2v-BERT 2.0, Parakeet.

A clip's last frames, of which its samples fill no whole column of features, are zeros: its extractor leaves
them out, and they are attended to by none.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any
from typing import Self

import torch
from torch import Tensor
from torch import autocast
from torch import nn
from transformers import PreTrainedModel

from speechrows.model.encoders.base import SAMPLING_RATE
from speechrows.model.encoders.base import Padded
from speechrows.model.encoders.base import SpeechEncoder
from speechrows.model.encoders.log_mel import kaldi_features
from speechrows.model.encoders.log_mel import nemo_features

_HOP = 160  # samples of a column of features


class W2vBertFrames(SpeechEncoder):
    """W2v-BERT 2.0 on speech [N, S] at 16 kHz: two columns of Kaldi's features are a frame."""

    mel = None
    max_frames = None
    steps_per_frame = 2 * _HOP
    frames_per_second = Fraction(SAMPLING_RATE, 2 * _HOP)

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: Any = model
        config: Any = model.config
        config.apply_spec_augment = False  # the loader augments
        config.layerdrop = 0.0  # a layer that is skipped would have no gradient, which DDP waits for
        for unused in self._never_trained():
            unused.requires_grad_(False)
        self.hidden_size = config.hidden_size
        self._num_mels = config.feature_projection_input_dim // 2

    def _never_trained(self) -> Sequence[nn.Parameter]:
        mask = getattr(self.model, "masked_spec_embed", None)
        return [mask] if isinstance(mask, nn.Parameter) else []

    def _encode(self, chunks: Padded) -> Tensor:
        with autocast(chunks.audio.device.type, enabled=False):  # energies are no numbers for bfloat16
            features, columns = kaldi_features(chunks.audio, chunks.num_samples, self._num_mels)
        pairs = features.reshape(len(features), -1, 2 * self._num_mels).to(self.dtype)
        is_heard = _first(columns // 2, pairs)
        return self.model(pairs, attention_mask=is_heard.long()).last_hidden_state * is_heard.unsqueeze(2)


class ParakeetFrames(SpeechEncoder):
    """Parakeet's FastConformer on speech [N, S] at 16 kHz: eight columns of NeMo's features are a frame."""

    mel = None
    max_frames = None

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: Any = model
        self.model.layerdrop = 0.0
        config: Any = model.config
        self.hidden_size = config.hidden_size
        self._num_mels = config.num_mel_bins
        self.steps_per_frame = _HOP * config.subsampling_factor
        self.frames_per_second = Fraction(SAMPLING_RATE, self.steps_per_frame)

    def _never_trained(self) -> Sequence[nn.Parameter]:
        return []

    def train(self, mode: bool = True) -> Self:
        """Train all but the statistics of its batch norms, in which clips would change one another."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self

    def _encode(self, chunks: Padded) -> Tensor:
        with autocast(chunks.audio.device.type, enabled=False):
            features, columns = nemo_features(chunks.audio, chunks.num_samples, self._num_mels)
        frames = self.model(features.to(self.dtype), attention_mask=_first(columns, features))
        return frames.last_hidden_state * frames.attention_mask.unsqueeze(2)


def _first(lengths: Tensor, like: Tensor) -> Tensor:
    """Bool [N, T], true for the first places of each line."""
    return torch.arange(like.shape[1], device=like.device) < lengths.unsqueeze(1)
