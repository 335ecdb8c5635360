"""A batch on the device: what a model's forward pass takes."""

from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace

import torch
from torch import Tensor

# These stay on the CPU: they say how to go through the others, and a device would have to be waited for.
ON_HOST = frozenset({"num_audio_tokens", "clip_row", "codec_lengths", "codec_row", "row_spans"})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """B sequences of T slots, N clips, N_c clips with codes, R rows (shapes as in types.py).

    Segments (in `bucket` rows, in `pack` and `lanes` conversations, or rows of tasks that are not
    whole) are numbered from 0 through the batch, sequence by sequence; clips stand in the order of
    their placeholders, so all placeholders of `input_ids`, row-major, are the clips' frames in a row.
    A batch that an idle rank gets has B = 0 sequences and `number` None: it weighs nothing.

    Pads between two rows of a segment (where turns are closed) are the segment's, and its positions
    go on through them; those after its last row are no segment's. S is the most that the clips'
    placeholders stand for, in samples rounded up: each clip is followed by zeros. Of `features`, a
    clip's own are those of its placeholders' samples // 160; after them they are what silence is there.
    """

    input_ids: Tensor  # int64 [B, T], pads are the tokenizer's pad
    labels: Tensor  # int64 [B, T], -100 where unsupervised, as a segment's first slot is; the model shifts
    attention_mask: Tensor  # bool [B, T], False at pads
    segment_ids: Tensor  # int32 [B, T], -1 at pads outside a segment
    position_ids: Tensor  # int64 [B, T], from 0 in each segment; a lane's go on from step to step
    reset: Tensor  # bool [B, T], the first slot of each segment that begins here
    cu_seqlens: Tensor  # int32 [segments + 1], where each begins among the slots where attention_mask is True
    lanes: Tensor  # int64 [B], the lane of each sequence, the same in every step

    speech: Tensor | None  # float32 [N, S] in [-1, 1] at `sampling_rate`; None where features are asked for
    features: Tensor | None  # float32 [N, M, F], log-mel, 160 samples a frame
    speech_lengths: Tensor  # int64 [N], samples at `sampling_rate`, pads not counted
    num_audio_tokens: Tensor  # int64 [N] on the CPU, placeholders of each clip
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
    row_spans: Tensor  # int64 [R, 3] on the CPU: sequence, first slot, and slot after the last token
    num_supervised: int  # labels that are not -100
    audio_seconds: float
    epoch: int
    step: int
    number: int | None  # of the micro-batch in its step; None for an idle rank's

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with every tensor but those of ON_HOST on a device."""
        moved = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor) and field.name not in ON_HOST
        }
        return replace(self, **moved)

    def __len__(self) -> int:
        return len(self.row_ids)
