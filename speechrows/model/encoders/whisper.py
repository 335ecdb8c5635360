"""Whisper's encoder, and those that are built as it is: Qwen2-Audio's, Audio Flamingo 3's, Voxtral's.

As transformers runs them they take exactly 30 s and no mask: their modules are called here, with positions
cut to the length and pads masked. Longer clips are encoded chunk by chunk.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask

from speechrows.model.encoders.base import Padded
from speechrows.model.encoders.base import SpeechEncoder
from speechrows.model.encoders.base import is_filled

# By the model_type of their configs; Voxtral's has a pool, too, but does not use it.
POOLED = ("qwen2_audio_encoder", "audioflamingo3_encoder")


class WhisperFrames(SpeechEncoder):
    """Such an encoder on log-mel features [N, M, F], 100 columns a second: two columns are a position.

    A position is a frame; where the encoder ends in a pool over two positions, these are.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: Any = model
        config: Any = model.config
        self.mel = config.num_mel_bins
        self.hidden_size = config.d_model
        self._positions_per_frame = 2 if config.model_type in POOLED else 1
        self.steps_per_frame = 2 * self._positions_per_frame
        self.frames_per_second = Fraction(50, self._positions_per_frame)
        self.max_frames = config.max_source_positions // self._positions_per_frame

    def _never_trained(self) -> Sequence[nn.Parameter]:
        return [*self.model.embed_positions.parameters()]  # sines

    def _encode(self, chunks: Padded) -> Tensor:
        model = self.model
        x = functional.gelu(model.conv1(chunks.audio.to(self.dtype)))
        x = functional.gelu(model.conv2(x)).transpose(1, 2)
        x = x + model.embed_positions.weight[: x.shape[1]]
        x = functional.dropout(x, p=model.dropout, training=self.training)
        mask: Any = None
        positions = [length * self._positions_per_frame for length in chunks.lengths]
        if min(positions) < x.shape[1]:
            mask = create_bidirectional_mask(
                model.config, x, is_filled(positions, x), allow_is_bidirectional_skip=False
            )
        for layer in model.layers:
            x = layer(x, mask)
        if self._positions_per_frame == 2:
            x = model.avg_pooler(x.transpose(1, 2)).transpose(1, 2)
        return model.layer_norm(x)
