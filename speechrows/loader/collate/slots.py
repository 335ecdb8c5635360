"""Where each token of a micro-batch stands: its rows laid into sequences, as numpy arrays on the host."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.ragged import Ragged
from speechrows.rows.curriculum import padded_length
from speechrows.types import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, slots=True)
class Slots:
    """B sequences of T slots, R rows: the fields of Batch of these names, all int64."""

    input_ids: Int64  # [B, T]
    labels: Int64  # [B, T]
    attention_mask: Int64  # [B, T]
    segment_ids: Int64  # [B, T]
    position_ids: Int64  # [B, T]
    reset: Int64  # [B, T]
    cu_seqlens: Int64  # [segments + 1]
    row_segments: Int64  # [R], the segment of each row


def lay_out(ragged: Ragged, options: PlanOptions, pad_id: int) -> Slots:
    """Put every row where the plan says.

    Pads between two rows of a segment (where turns are closed) belong to it, so its positions go on
    through them; those after its last row belong to none. The first label of a segment is no target:
    what precedes it in the sequence is of another segment, or in an earlier step.
    """
    placed, num_tokens = ragged.micro_batch, ragged.num_tokens.astype(np.int64)
    num_slots = _num_slots(ragged, options)
    shape = placed.num_sequences, num_slots
    starts = placed.sequence.astype(np.int64) * num_slots + placed.start
    is_first = (placed.position == 0) | (np.diff(placed.sequence, prepend=-1) != 0)
    segments = np.cumsum(is_first) - 1
    goes_on = np.append(~is_first[1:], np.zeros(min(1, len(is_first)), bool))
    extents = np.where(goes_on, np.append(starts[1:], 0)[: len(starts)] - starts, num_tokens)
    of_rows, offsets = ranges(starts, extents)
    of_tokens, _ = ranges(starts, num_tokens)
    firsts = starts[is_first]
    labels = filled(shape, IGNORE_INDEX, of_tokens, ragged.labels)
    labels.reshape(-1)[firsts] = IGNORE_INDEX
    lengths = np.bincount(segments, num_tokens, int(is_first.sum())).astype(np.int64)
    return Slots(
        input_ids=filled(shape, pad_id, of_tokens, ragged.input_ids),
        labels=labels,
        attention_mask=filled(shape, 0, of_tokens, 1),
        segment_ids=filled(shape, -1, of_rows, np.repeat(segments, extents)),
        position_ids=filled(shape, 0, of_rows, offsets + np.repeat(placed.position, extents)),
        reset=filled(shape, 0, starts[placed.reset], 1),
        cu_seqlens=np.append(0, np.cumsum(lengths)),
        row_segments=segments,
    )


def _num_slots(ragged: Ragged, options: PlanOptions) -> int:
    if options.mode != "bucket":
        return options.num_slots
    return padded_length(int(ragged.num_tokens.max(initial=0)), options.pad_to_multiple_of)


def ranges(starts: Int64, lengths: Int64) -> tuple[Int64, Int64]:
    """Ranges one after another, and how far each entry is from where its own begins."""
    ends = np.cumsum(lengths)
    offsets = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    return np.repeat(starts, lengths) + offsets, offsets


def filled(shape: tuple[int, ...], empty: int, places: Int64, values: npt.ArrayLike) -> Int64:
    """An array of one value, but for some places, counted row-major."""
    made = np.full(shape, empty, np.int64)
    made.reshape(-1)[places] = values
    return made
