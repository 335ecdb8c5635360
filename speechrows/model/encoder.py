"""Speech encoders of transformers without their padding: clips of any length in, whole frames out.

A clip gets num_audio_tokens x frames_per_token frames of 20 ms. Whisper's encoder as transformers
runs it takes exactly 30 s and no mask: its modules are called here, with positions cut to the length
and pads masked. Longer clips are encoded chunk by chunk. Encoders of raw speech lose the last frame to
convolutions without padding: a clip is extended by the samples that they need.
"""

from abc import ABC
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from typing import Self

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
class _Chunk:
    """Frames start..start+length of a clip."""

    clip: int
    start: int
    length: int


class SpeechEncoder(nn.Module, ABC):
    """Base of encoders: cuts clips into chunks, and encodes chunks of similar length together.

    `mel` is the number of bins of the features that it takes, None if it takes speech.
    """

    mel: int | None
    hidden_size: int
    steps_per_frame: int  # samples, or columns of features
    frames_per_second: Fraction
    max_frames: int | None  # of a chunk
    normalize: bool = False  # each clip to mean 0 and variance 1

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Train its parameters, or none of them; what is never trained is not trained by this."""
        super().requires_grad_(requires_grad)
        for parameter in self._never_trained():
            parameter.requires_grad_(False)
        return self

    @abstractmethod
    def _never_trained(self) -> Sequence[nn.Parameter]:
        """The parameters that keep their values, whatever is trained."""

    def forward(self, batch: Batch, frames_per_token: int) -> Tensor:
        """The frames of all clips, one clip after another: [frames, D].

        Raises:
            UsageError: the batch holds no such audio, or is made for another number of tokens a second.
        """
        num_frames = [tokens * frames_per_token for tokens in batch.num_audio_tokens.tolist()]
        self._check_kind(batch)
        clips = batch.clips()
        self._check_length(clips, num_frames, batch)
        chunks = [
            _Chunk(clip=clip, start=start, length=min(total - start, self.max_frames or total))
            for clip, total in enumerate(num_frames)
            for start in range(0, total, self.max_frames or total)
        ]
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for i, chunk in enumerate(chunks):
            groups[self._length_class(chunk.length)].append(i)
        encoded: list[Tensor] = [clips[0]] * len(chunks)
        for indices in groups.values():
            group = [chunks[i] for i in indices]
            audio = self._padded(clips, group)
            if self.normalize:  # a chunk is a whole clip then
                audio = _normalised(audio, batch.speech_lengths[[chunk.clip for chunk in group]])
            audio = audio.to(next(self.parameters()).dtype)
            frames = self._encode(audio, [chunk.length for chunk in group])
            for i, chunk, padded in zip(indices, group, frames, strict=True):
                encoded[i] = padded[: chunk.length]
        return torch.cat(encoded)

    @abstractmethod
    def _check_kind(self, batch: Batch) -> None:
        """Check that the batch holds speech or features for this encoder."""

    @abstractmethod
    def _encode(self, audio: Tensor, lengths: Sequence[int]) -> Tensor:
        """Frames [W, F, D] of W chunks [W, ..., F x steps_per_frame]; `lengths`: frames without pads."""

    def _length_class(self, length: int) -> int:
        """The class of a length; chunks of one class, within a factor of two, are encoded together."""
        return length.bit_length()

    def _padded(self, clips: Sequence[Tensor], chunks: Sequence[_Chunk]) -> Tensor:
        longest = max(chunk.length for chunk in chunks) * self.steps_per_frame
        cuts = [
            clips[c.clip][..., c.start * self.steps_per_frame : (c.start + c.length) * self.steps_per_frame]
            for c in chunks
        ]
        return torch.stack([functional.pad(cut, (0, longest - cut.shape[-1])) for cut in cuts])

    def _check_length(self, clips: Sequence[Tensor], num_frames: Sequence[int], batch: Batch) -> None:
        longest = num_frames.index(max(num_frames))
        expected = num_frames[longest] * self.steps_per_frame
        pieces = int(batch.clip_pieces[longest])
        row = clips[longest].shape[-1] // pieces
        if -(-expected // row) != pieces or (pieces == 1 and row != expected):
            row_id = batch.row_ids[int(batch.clip_row[longest])]
            raise UsageError(
                f"{row_id}: found audio of shape {[*clips[longest].shape]}, {num_frames[longest]} frames of "
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

    def _never_trained(self) -> Sequence[nn.Parameter]:
        return [*self.model.embed_positions.parameters()]  # sines

    def _check_kind(self, batch: Batch) -> None:
        if batch.features is None or batch.features.shape[1] != self.mel:
            shape = None if batch.features is None else [*batch.features.shape]
            raise UsageError(
                f"features: found {shape}, expected log-mel of {self.mel} bins: load with mel={self.mel}"
            )

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

    def _check_kind(self, batch: Batch) -> None:
        if batch.speech is None or batch.sampling_rate != SAMPLING_RATE:
            rate = "none" if batch.speech is None else f"{batch.sampling_rate} Hz"
            raise UsageError(f"speech: found {rate}, expected {SAMPLING_RATE} Hz: load without mel")

    def _length_class(self, length: int) -> int:
        # Where the first convolution is normed over time, pads would change every frame.
        return length if self._norms_over_time else super()._length_class(length)

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


def _normalised(speech: Tensor, lengths: Tensor) -> Tensor:
    """Clips [W, S] of so many samples [W], each given mean 0 and variance 1, zeros after it."""
    lengths = lengths.unsqueeze(1)
    real = torch.arange(speech.shape[1], device=speech.device) < lengths
    centred = torch.where(real, speech - (speech * real).sum(1, keepdim=True) / lengths, 0.0)
    variance = centred.square().sum(1, keepdim=True) / lengths
    return centred / (variance + 1e-7).sqrt()


def _is_filled(lengths: Sequence[int], like: Tensor) -> Tensor:
    """Bool [W, longest], False at pads."""
    places = torch.arange(max(lengths), device=like.device)
    return places < torch.tensor(lengths, device=like.device).unsqueeze(1)
