"""Speech encoders of transformers without their padding: clips of any length in, whole frames out.

A clip gets num_audio_tokens x frames_per_token frames of 20 ms. Whisper's encoder as transformers
runs it takes 30 s, no more and no less, and no mask: its parts are called here, with the positions
cut to the length and pads masked. What is longer is encoded window by window. Encoders of raw
speech lose the last frame to convolutions without padding: the clip gets the samples that it needs.
"""

from abc import ABC
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch

SAMPLING_RATE = 16_000  # of every encoder here


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    """Frames start..start+length of a clip."""

    clip: int
    start: int
    length: int


class SpeechEncoder(nn.Module, ABC):
    """What encoders have in common: clips are cut into windows, and like lengths go together.

    `mel` is the number of bins of the features that it takes, None where it takes speech.
    """

    mel: int | None
    hidden_size: int
    steps_per_frame: int  # samples, or columns of features
    frames_per_second: Fraction
    max_frames: int | None  # of a window

    def forward(self, batch: Batch, frames_per_token: int) -> Tensor:
        """The frames of all clips, one clip after another: [frames, D].

        Raises:
            UsageError: the batch holds no such audio, or is made for another number of tokens a second.
        """
        num_frames = [tokens * frames_per_token for tokens in batch.num_audio_tokens.tolist()]
        audio = self._audio(batch)
        self._check_length(audio, num_frames, batch)
        windows = [
            _Window(clip=clip, start=start, length=min(total - start, self.max_frames or total))
            for clip, total in enumerate(num_frames)
            for start in range(0, total, self.max_frames or total)
        ]
        alike: defaultdict[int, list[int]] = defaultdict(list)
        for place, window in enumerate(windows):
            alike[self._kind(window.length)].append(place)
        made: list[Tensor] = [audio] * len(windows)
        for places in alike.values():
            chosen = [windows[place] for place in places]
            frames = self._encode(self._padded(audio, chosen), [window.length for window in chosen])
            for place, window, encoded in zip(places, chosen, frames, strict=True):
                made[place] = encoded[: window.length]
        return torch.cat(made)

    @abstractmethod
    def _audio(self, batch: Batch) -> Tensor:
        """What the batch holds for this encoder, [N, ..., steps]."""

    @abstractmethod
    def _encode(self, audio: Tensor, lengths: Sequence[int]) -> Tensor:
        """Frames [W, F, D] of windows [W, ..., F x steps_per_frame], of which `lengths` are no pads."""

    def _kind(self, length: int) -> int:
        """Windows of one kind go together: within a factor of two, so that few pads are encoded."""
        return length.bit_length()

    def _padded(self, audio: Tensor, windows: Sequence[_Window]) -> Tensor:
        longest = max(window.length for window in windows) * self.steps_per_frame
        cut = [
            audio[w.clip, ..., w.start * self.steps_per_frame : (w.start + w.length) * self.steps_per_frame]
            for w in windows
        ]
        return torch.stack([functional.pad(piece, (0, longest - piece.shape[-1])) for piece in cut])

    def _check_length(self, audio: Tensor, num_frames: Sequence[int], batch: Batch) -> None:
        expected = max(num_frames) * self.steps_per_frame
        if audio.shape[-1] != expected:
            longest = num_frames.index(max(num_frames))
            row_id = batch.row_ids[int(batch.clip_row[longest])]
            raise UsageError(
                f"{row_id}: found audio of shape {[*audio.shape]} beside {num_frames[longest]} frames of "
                f"its clip, expected {expected} steps: the rows are made for another number of audio "
                "tokens a second than the model; load them with the model's audio_tokens_per_second"
            )


class WhisperFrames(SpeechEncoder):
    """Whisper's encoder on log-mel features [N, M, F], 100 columns a second."""

    def __init__(self, model: WhisperEncoder) -> None:
        super().__init__()
        self.model = model
        self.mel = model.config.num_mel_bins
        self.hidden_size = model.config.d_model
        self.steps_per_frame = 2
        self.frames_per_second = Fraction(50)
        self.max_frames = model.config.max_source_positions

    def _audio(self, batch: Batch) -> Tensor:
        if batch.features is None or batch.features.shape[1] != self.mel:
            found = None if batch.features is None else [*batch.features.shape]
            raise UsageError(
                f"features: found {found}, expected log-mel of {self.mel} bins: load with mel={self.mel}"
            )
        return batch.features.to(self.model.conv1.weight.dtype)

    def _encode(self, audio: Tensor, lengths: Sequence[int]) -> Tensor:
        model = self.model
        x = functional.gelu(model.conv2(functional.gelu(model.conv1(audio)))).transpose(1, 2)
        x = x + model.embed_positions.weight[: x.shape[1]]
        x = functional.dropout(x, p=model.dropout, training=self.training)
        mask: Any = None
        if min(lengths) < x.shape[1]:
            mask = create_bidirectional_mask(
                model.config, x, _is_filled(lengths, x), allow_is_bidirectional_skip=False
            )
        for layer in model.layers:
            x = layer(x, mask)
        return model.layer_norm(x)


class WaveFrames(SpeechEncoder):
    """WavLM, HuBERT, wav2vec 2.0 and the like, on speech [N, S] at 16 kHz.

    `normalize` gives each clip mean 0 and variance 1 first, as the model's own feature extractor says.
    """

    mel = None
    max_frames = None

    def __init__(self, model: PreTrainedModel, *, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.normalize = normalize
        config: Any = model.config
        # Augmentation is the loader's; layers that are skipped at times have no gradient then.
        config.apply_spec_augment = False
        config.layerdrop = 0.0
        if isinstance(unused := getattr(model, "masked_spec_embed", None), nn.Parameter):
            unused.requires_grad_(False)
        self.hidden_size = config.hidden_size
        self.steps_per_frame, reach = 1, 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            self.steps_per_frame *= stride
            reach = (reach - 1) * stride + kernel
        self.overlap = reach - self.steps_per_frame  # samples that the last frame sees beyond its own
        self.frames_per_second = Fraction(SAMPLING_RATE, self.steps_per_frame)
        self._norms_over_time = config.feat_extract_norm == "group"

    def _audio(self, batch: Batch) -> Tensor:
        if batch.speech is None or batch.sampling_rate != SAMPLING_RATE:
            found = "none" if batch.speech is None else f"{batch.sampling_rate} Hz"
            raise UsageError(f"speech: found {found}, expected {SAMPLING_RATE} Hz: load without mel")
        speech = batch.speech
        if self.normalize:
            lengths = batch.speech_lengths.to(speech.device).unsqueeze(1)
            real = torch.arange(speech.shape[1], device=speech.device) < lengths
            centred = torch.where(real, speech - (speech * real).sum(1, keepdim=True) / lengths, 0.0)
            variance = centred.square().sum(1, keepdim=True) / lengths
            speech = centred / (variance + 1e-7).sqrt()
        return speech.to(next(self.model.parameters()).dtype)

    def _kind(self, length: int) -> int:
        # Where the first convolution is normed over time, pads would change every frame.
        return length if self._norms_over_time else super()._kind(length)

    def _encode(self, audio: Tensor, lengths: Sequence[int]) -> Tensor:
        audio = functional.pad(audio, (0, self.overlap))
        mask = None
        if min(lengths) < max(lengths):
            samples = [length * self.steps_per_frame + self.overlap for length in lengths]
            mask = _is_filled(samples, audio).long()
        return self.model(audio, attention_mask=mask).last_hidden_state


def speech_encoder(model: PreTrainedModel, *, normalize: bool) -> SpeechEncoder:
    """The encoder of a speech model of transformers. `normalize`: see WaveFrames.

    Raises:
        UsageError: no encoder of a known kind.
    """
    encoder: Any = model.get_encoder() if model.config.is_encoder_decoder else model
    if isinstance(encoder, WhisperEncoder):
        return WhisperFrames(encoder)
    if hasattr(encoder.config, "conv_stride") and hasattr(encoder.config, "feat_extract_norm"):
        return WaveFrames(encoder, normalize=normalize)
    raise UsageError(
        f"speech encoder: found {type(model).__name__}, expected Whisper or one of the families of "
        "wav2vec 2.0: WavLM, HuBERT, wav2vec 2.0, UniSpeech"
    )


def _is_filled(lengths: Sequence[int], like: Tensor) -> Tensor:
    """Bool [W, longest], False at pads."""
    places = torch.arange(max(lengths), device=like.device)
    return places < torch.tensor(lengths, device=like.device).unsqueeze(1)
