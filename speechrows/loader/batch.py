"""A batch on the device, the input of a model's forward pass."""

from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace

import torch
from torch import Tensor

from speechrows.loader.collate.folding import unfolded

# These stay on the CPU: they say how to index the others, and reading them from a device would wait for it.
ON_HOST = frozenset(
    {"num_audio_tokens", "clip_pieces", "clip_row", "codec_lengths", "codec_row", "row_spans", "source"}
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """B sequences of T slots, N clips, N_c clips with codes, R rows (shapes as in types.py).

    Segments (in `bucket` rows, in `pack` and `lanes` conversations, or rows of tasks that are not
    whole) are numbered from 0 through the batch, sequence by sequence. Clips stand in the order of
    their placeholders, so all placeholders of `input_ids`, row-major, are the clips' frames in order.
    The batch of an idle rank has B = 0 sequences and `number` None: it adds nothing to a loss.

    Pads between two rows of a segment (where turns are closed) belong to the segment, and its positions
    go on through them; pads after its last row belong to none. S is the longest clip's placeholders in
    samples, rounded up; zeros follow each clip. A clip has `features` for the samples of its
    placeholders // 160 frames; the frames after them hold what silence is in that clip.
    """

    input_ids: Tensor  # int64 [B, T], pads are the tokenizer's pad
    labels: Tensor  # int64 [B, T], -100 where unsupervised, as a segment's first slot is; the model shifts
    attention_mask: Tensor  # bool [B, T], False at pads
    segment_ids: Tensor  # int32 [B, T], -1 at pads outside a segment
    position_ids: Tensor  # int64 [B, T], from 0 in each segment; a lane's go on from step to step
    reset: Tensor  # bool [B, T], the first slot of each segment, or session of them, that begins here
    cu_seqlens: Tensor  # int32 [segments + 1], where each segment begins, counting the slots that are no pads
    lanes: Tensor  # int64 [B], the lane of each sequence, the same in every step

    # A row a clip; in `pack` and `lanes`, a clip much longer than the others takes several: see `clips`.
    speech: Tensor | None  # float32 [N, S] in [-1, 1] at `sampling_rate`; None if there are features
    features: Tensor | None  # float32 [N, M, F], log-mel, 160 samples a frame
    speech_lengths: Tensor  # int64 [N], samples at `sampling_rate`, pads not counted
    num_audio_tokens: Tensor  # int64 [N] on the CPU, placeholders of each clip
    clip_pieces: Tensor  # int64 [N] on the CPU, rows of `speech` or `features` of each clip
    clip_segment: Tensor  # int64 [N]
    clip_row: Tensor  # int64 [N] on the CPU, places in row_ids
    sampling_rate: int

    codec: str | None
    codec_targets: Tensor | None  # int64 [N_c, K, F], padded with -100
    codec_lengths: Tensor  # int64 [N_c] on the CPU, frames
    codec_segment: Tensor  # int64 [N_c]
    codec_row: Tensor  # int64 [N_c] on the CPU, places in row_ids

    row_ids: tuple[str, ...]  # [R], in the order of slots
    conversation_ids: tuple[str, ...]  # [R]
    tasks: tuple[str, ...]  # [R]
    turn_numbers: tuple[int, ...]  # [R]
    source: Tensor  # int64 [R] on the CPU, the number of each row's source in Loader.sources
    row_spans: Tensor  # int64 [R, 3] on the CPU: sequence, first slot, and slot after the last token
    num_supervised: int  # labels that are not -100
    audio_seconds: float
    epoch: int
    step: int
    number: int | None  # of the micro-batch in its step; None for an idle rank's

    def __repr__(self) -> str:
        names = ("input_ids", "speech", "features", "codec_targets")
        tensors = {name: tensor for name in names if (tensor := getattr(self, name)) is not None}
        shapes = ", ".join(f"{name}={[*tensor.shape]}" for name, tensor in tensors.items())
        return (
            f"Batch({shapes}, rows={len(self)}, clips={len(self.speech_lengths)}, "
            f"num_supervised={self.num_supervised}, epoch={self.epoch}, step={self.step}, "
            f"number={self.number}, device={str(self.input_ids.device)!r})"
        )

    def to(self, device: torch.device | str) -> "Batch":
        """Move every tensor but those of ON_HOST to a device."""
        moved = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor) and field.name not in ON_HOST
        }
        return replace(self, **moved)

    def clips(self) -> list[Tensor]:
        """The speech [S] or features [M, F] of each clip, with the pads of its rows."""
        rows = self.features if self.speech is None else self.speech
        return [] if rows is None else unfolded(rows, self.clip_pieces)

    def __len__(self) -> int:
        return len(self.row_ids)
