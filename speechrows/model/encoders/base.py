"""What every speech encoder does: clips of any length in, num_audio_tokens x frames_per_token frames out.

The frames of a clip are the same alone and among longer ones.
"""

from abc import ABC
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch

SAMPLING_RATE = 16_000  # of every encoder here


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    """Frames start..start+length of a clip."""

    clip: int
    start: int
    length: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Padded:
    """Chunks of similar length that are encoded together."""

    audio: Tensor  # float32 speech or features [W, ..., F x steps_per_frame], zeros after each
    lengths: Sequence[int]  # of each, in frames
    num_samples: Tensor  # int64 [W] on the device, those of its clip, which end in its last frames


class SpeechEncoder(nn.Module, ABC):
    """Base of encoders: cuts clips into chunks, and encodes chunks of similar length together.

    `mel` is the number of bins of the features that it takes, None if it takes speech.
    """

    mel: int | None
    hidden_size: int
    steps_per_frame: int  # samples, or columns of features
    frames_per_second: Fraction
    max_frames: int | None  # of a chunk
    # How often all ranks run the model for a batch, by how often this one needs to.
    agree: Callable[[int], int] = staticmethod(lambda calls: calls)
    normalize: bool = False  # each clip to mean 0 and variance 1; of encoders that an extractor tells it of

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Train its parameters, or none of them; what is never trained is not trained by this."""
        super().requires_grad_(requires_grad)
        for parameter in self._never_trained():
            parameter.requires_grad_(False)
        return self

    def blocks(self) -> nn.ModuleList:
        """The blocks that most of its parameters are in."""
        lists = [module for module in self.modules() if isinstance(module, nn.ModuleList)]
        return max(lists, key=lambda blocks: sum(parameter.numel() for parameter in blocks.parameters()))

    @abstractmethod
    def _never_trained(self) -> Sequence[nn.Parameter]:
        """The parameters that keep their values, whatever is trained."""

    def frames_per_token(self, audio_tokens_per_second: Fraction) -> int:
        """The frames that are an audio token.

        Raises:
            UsageError: no whole number of frames is.
        """
        frames = self.frames_per_second / audio_tokens_per_second
        if frames.denominator == 1:
            return frames.numerator
        whole = (self.frames_per_second / k for k in range(1, 100))
        rates = [rate for rate in whole if 1000 % rate.denominator == 0]  # as a flag can say them
        above = [rate for rate in rates if rate > audio_tokens_per_second][-1:]
        near = [*above, *(rate for rate in rates if rate < audio_tokens_per_second)][:3]
        raise UsageError(
            f"audio tokens a second: found {float(audio_tokens_per_second):g}, expected a whole fraction of "
            f"the encoder's {float(self.frames_per_second):g} frames a second: --rate "
            f"{' or '.join(f'{float(rate):g}' for rate in near)}"
        )

    def forward(self, batch: Batch, frames_per_token: int) -> Tensor:
        """The frames of all clips, one clip after another: [frames, D].

        The model runs once at least, and as often as on other ranks: so all parameters have a gradient, and
        ranks that share them find each other.

        Raises:
            UsageError: the batch holds no such audio, or is made for another number of tokens a second.
        """
        num_frames = [tokens * frames_per_token for tokens in batch.num_audio_tokens.tolist()]
        clips = batch.clips()
        if clips:
            self._check_kind(batch)
            self._check_length(clips, num_frames, batch)
        chunks = [
            _Chunk(clip=clip, start=start, length=min(total - start, self.max_frames or total))
            for clip, total in enumerate(num_frames)
            for start in range(0, total, self.max_frames or total)
        ]
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for i, chunk in enumerate(chunks):
            groups[self._length_class(chunk.length)].append(i)
        encoded: list[Tensor] = [*clips[:1]] * len(chunks)
        calls = self.agree(max(1, len(groups)))
        for indices in groups.values():
            group = [chunks[i] for i in indices]
            frames = self._encode(
                Padded(
                    audio=self._padded(clips, group),
                    lengths=[chunk.length for chunk in group],
                    num_samples=batch.speech_lengths[[chunk.clip for chunk in group]],
                )
            )
            for i, chunk, padded in zip(indices, group, frames, strict=True):
                encoded[i] = padded[: chunk.length]
        for _ in range(len(groups), calls):
            encoded.append(self._encode(self._silence(frames_per_token, batch))[0, :0])
        return torch.cat(encoded)

    def _silence(self, frames: int, batch: Batch) -> Padded:
        """So many frames of it."""
        steps, device = frames * self.steps_per_frame, batch.input_ids.device
        audio = torch.zeros((1, self.mel, steps) if self.mel else (1, steps), device=device)
        samples = int(frames * SAMPLING_RATE / self.frames_per_second)
        num_samples = batch.speech_lengths.new_full((1,), samples)
        return Padded(audio=audio, lengths=[frames], num_samples=num_samples)

    @abstractmethod
    def _encode(self, chunks: Padded) -> Tensor:
        """Frames [W, F, D] of chunks."""

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return next(self.parameters()).dtype

    def _check_kind(self, batch: Batch) -> None:
        """Check that the batch holds the speech or features that this encoder takes."""
        if self.mel is None and (batch.speech is None or batch.sampling_rate != SAMPLING_RATE):
            rate = "none" if batch.speech is None else f"{batch.sampling_rate} Hz"
            raise UsageError(f"speech: found {rate}, expected {SAMPLING_RATE} Hz: load without mel")
        if self.mel is not None and (batch.features is None or batch.features.shape[1] != self.mel):
            shape = None if batch.features is None else [*batch.features.shape]
            raise UsageError(
                f"features: found {shape}, expected log-mel of {self.mel} bins: load with mel={self.mel}"
            )

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


def is_filled(lengths: Sequence[int], like: Tensor) -> Tensor:
    """Bool [W, longest], False at pads."""
    places = torch.arange(max(lengths), device=like.device)
    return places < torch.tensor(lengths, device=like.device).unsqueeze(1)
