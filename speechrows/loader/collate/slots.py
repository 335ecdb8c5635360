"""Lay the rows of a micro-batch into sequences: a slot for each token, as numpy arrays on the host."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import expanded
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.ragged import Ragged
from speechrows.rows.curriculum import padded_length
from speechrows.types import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, slots=True)
class Slots:
    """B sequences of T slots, R rows. The fields are those of Batch, here int64."""

    input_ids: Int64  # [B, T]
    labels: Int64  # [B, T]
    attention_mask: Int64  # [B, T]
    segment_ids: Int64  # [B, T]
    position_ids: Int64  # [B, T]
    reset: Int64  # [B, T]
    cu_seqlens: Int64  # [segments + 1]
    row_segments: Int64  # [R], the segment of each row


def lay_out(ragged: Ragged, options: PlanOptions, pad_id: int) -> Slots:
    """Put every row into its slots of the plan.

    Pads between two rows of a segment (where turns are closed) belong to it, so its positions go on
    through them; those after its last row belong to none. The first label of a segment is no target:
    what precedes it is of another segment, or in an earlier step.
    """
    micro_batch, num_tokens = ragged.micro_batch, ragged.num_tokens.astype(np.int64)
    num_slots = _num_slots(ragged, options)
    shape = micro_batch.num_sequences, num_slots
    starts: Int64 = micro_batch.sequence.astype(np.int64) * num_slots + micro_batch.start
    is_first = (micro_batch.position == 0) | (np.diff(micro_batch.sequence, prepend=-1) != 0)
    segments = np.cumsum(is_first) - 1
    goes_on = np.append(~is_first[1:], np.zeros(min(1, len(is_first)), bool))
    extents = np.where(goes_on, np.append(starts[1:], 0)[: len(starts)] - starts, num_tokens)
    row_slots, token_slots = expanded(starts, extents), expanded(starts, num_tokens)
    offsets = row_slots - np.repeat(starts, extents)
    firsts = starts[is_first]
    labels = filled(shape, IGNORE_INDEX, token_slots, ragged.labels)
    labels.reshape(-1)[firsts] = IGNORE_INDEX
    lengths = np.bincount(segments, num_tokens, int(is_first.sum())).astype(np.int64)
    return Slots(
        input_ids=filled(shape, pad_id, token_slots, ragged.input_ids),
        labels=labels,
        attention_mask=filled(shape, 0, token_slots, 1),
        segment_ids=filled(shape, -1, row_slots, np.repeat(segments, extents)),
        position_ids=filled(shape, 0, row_slots, offsets + np.repeat(micro_batch.position, extents)),
        reset=filled(shape, 0, starts[micro_batch.reset], 1),
        cu_seqlens=np.append(0, np.cumsum(lengths)),
        row_segments=segments,
    )


def _num_slots(ragged: Ragged, options: PlanOptions) -> int:
    if options.mode != "bucket":
        return options.num_slots
    return padded_length(int(ragged.num_tokens.max(initial=0)), options.pad_to_multiple_of)


def filled(shape: tuple[int, ...], empty: int, places: Int64, values: npt.ArrayLike) -> Int64:
    """An array of the value `empty`, but for `values` at `places`, which count row-major."""
    array = np.full(shape, empty, np.int64)
    array.reshape(-1)[places] = values
    return array
