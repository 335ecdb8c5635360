"""Clips of very different lengths in one tensor: long ones continue in further rows.

A row a clip, each as wide as the longest, would make a batch as large as its longest clip says: of one of
two minutes among sixty of a second, nearly all would be pads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from speechrows.loader.collate.mel import HOP
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.values import PlanMode

_MOST = 4  # times its audio, a batch is left with a row a clip


@dataclass(frozen=True, kw_only=True, slots=True)
class Folding:
    """How N clips become rows of `width` samples: clip i has `pieces[i]` of them, one after another.

    `groups` are clips of like length, which are made together: one group where every clip has one row.
    """

    rooms: Int64  # samples of each clip, with its pads
    groups: Sequence[Int64]
    width: int
    pieces: Int64

    @staticmethod
    def of(rooms: Int64, mode: PlanMode) -> "Folding":
        """A row a clip; where that were more than four times the audio, so that it is twice at most.

        `bucket` takes clips of like length together, and counts pads in its budget.
        """
        longest, total = int(rooms.max(initial=0)), int(rooms.sum())
        if mode == "bucket" or longest * len(rooms) <= _MOST * total:
            ones = np.ones(len(rooms), np.int64)
            return Folding(rooms=rooms, groups=[np.arange(len(rooms))], width=longest, pieces=ones)
        order = np.argsort(rooms, kind="stable")
        classes = np.log2(rooms[order]).astype(np.int64)  # in each, lengths within a factor of two
        groups = np.split(order, np.flatnonzero(np.diff(classes)) + 1)
        widths = [-(-int(rooms[group].max()) // HOP) * HOP for group in reversed(groups)]
        width = next((w for w in widths if int((-(-rooms // w) * w).sum()) <= 2 * total), widths[-1])
        return Folding(rooms=rooms, groups=groups, width=width, pieces=-(-rooms // width))

    def joined(self, parts: Sequence[Tensor], step: int) -> Tensor:
        """The rows of all clips, [rows, ..., width // step], of what was made of each group.

        Args:
            parts: of each group, [clips, ..., samples // step]; zeros follow a clip that is folded.
            step: samples of an entry.
        """
        if len(parts) == 1:
            return parts[0]
        width, firsts = self.width // step, np.cumsum(self.pieces) - self.pieces
        rows = parts[0].new_zeros(int(self.pieces.sum()), *parts[0].shape[1:-1], width)
        for group, part in zip(self.groups, parts, strict=True):
            for clip, values in zip(group.tolist(), part, strict=True):
                first, pieces = int(firsts[clip]), int(self.pieces[clip])
                whole = values[..., : int(self.rooms[clip]) // step]
                whole = functional.pad(whole, (0, pieces * width - whole.shape[-1]))
                rows[first : first + pieces] = whole.unflatten(-1, (pieces, width)).movedim(-2, 0)
        return rows


def unfolded(rows: Tensor, pieces: Tensor) -> list[Tensor]:
    """The clips of rows [rows, ..., width], each [..., pieces x width]; `pieces` int64 [N] on the CPU."""
    clips = torch.split(rows, pieces.tolist())
    return [clip[0] if len(clip) == 1 else clip.movedim(0, -2).flatten(-2) for clip in clips]
