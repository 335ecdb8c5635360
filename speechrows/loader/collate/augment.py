"""Augmentation of the audio of training rows: drawn anew in every epoch, computed on the device.

What is drawn for a row follows from the seed, its row_id, the epoch and how often the row came before in
it: it is the same in any batch, on any rank, in any order.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from speechrows.errors import UsageError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_NOISE = 1 << 20  # samples of noise, drawn once; each clip's noise begins somewhere in them
_DRAWN = ("speed", "gain", "snr", "noise")  # columns of the numbers drawn; those of masks follow


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Options of augmentation; the defaults change nothing.

    `speed_percent` are at least 100: a row's placeholders are fixed, so its clip may become shorter,
    the rest of its room being padding, and never longer. The masks of SpecAugment lie inside a clip's
    speech and are set to 0; they need features.
    """

    speed_percent: tuple[int, ...] = (100,)  # one of these; pitch goes with it
    gain_db: tuple[float, float] = (0.0, 0.0)  # between these
    snr_db: tuple[float, float] | None = None  # between these: white noise so far below the clip's power
    time_masks: int = 0
    time_mask_share: float = 0.05  # of the clip's frames, the most that one mask covers
    frequency_masks: int = 0
    frequency_mask_bins: int = 10  # the most that one mask covers

    def __post_init__(self) -> None:
        if not self.speed_percent or not all(100 <= percent <= 200 for percent in self.speed_percent):
            raise UsageError(
                f"speed_percent: found {self.speed_percent}, expected whole numbers from 100 to 200: a "
                "slower clip would not fit into its row's placeholders"
            )
        for name in ("gain_db", "snr_db"):
            pair = getattr(self, name)
            if pair is not None and not pair[0] <= pair[1]:
                raise UsageError(f"{name}: found {pair}, expected the lower bound first")
        if not 0 <= self.time_mask_share <= 1:
            raise UsageError(f"time_mask_share: found {self.time_mask_share}, expected a number from 0 to 1")
        for name in ("time_masks", "frequency_masks", "frequency_mask_bins"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}: found {getattr(self, name)}, expected 0 or more")

    @staticmethod
    def parse(texts: Sequence[str]) -> "Augment | None":
        """Parse options NAME=VALUE[,VALUE…], such as speed_percent=100,110 and snr_db=10,30; of none, None.

        Raises:
            UsageError: there is no such option, or it takes other values.
        """
        options: dict[str, Any] = {}
        defaults: dict[str, Any] = {field.name: field.default for field in fields(Augment)}
        for name, _, values in (text.partition("=") for text in texts):
            if name not in defaults:
                raise UsageError(f"augment: found {name!r}, expected one of {', '.join(defaults)}")
            default = (0.0, 0.0) if defaults[name] is None else defaults[name]
            kind: Any = type(default)
            count = 1
            if isinstance(default, tuple):
                kind, count = type(default[0]), 0 if name == "speed_percent" else 2
            try:
                numbers = [*map(kind, values.split(","))]
            except ValueError:
                numbers = []
            if not numbers or len(numbers) != (count or len(numbers)):
                expected = {0: "numbers", 1: "a number", 2: "two numbers"}[count]
                raise UsageError(f"augment {name}: found {values!r}, expected {expected} of {kind.__name__}")
            options[name] = tuple(numbers) if isinstance(default, tuple) else numbers[0]
        return Augment(**options) if options else None

    @property
    def masks(self) -> bool:
        """Whether features are masked."""
        return self.time_masks + self.frequency_masks > 0

    def draw(
        self, row_ids: Sequence[str], seed: int, epoch: int, repeats: Sequence[int] | None = None
    ) -> Float64:
        """Draw numbers in [0, 1) for each row: [N, 4 + 2 masks]; `repeats` are MicroBatch's."""
        count = len(_DRAWN) + 2 * (self.time_masks + self.frequency_masks)
        digests = [
            hashlib.shake_256(f"{seed} {epoch}{f'.{n}' if n else ''} {row_id}".encode()).digest(8 * count)
            for row_id, n in zip(row_ids, repeats or [0] * len(row_ids), strict=True)
        ]
        bits = np.frombuffer(b"".join(digests), "<u8").reshape(len(digests), count)
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def speeds(self, drawn: Float64) -> Int64:
        """The speed of each clip in percent, [N]."""
        return np.array(self.speed_percent)[(drawn[:, 0] * len(self.speed_percent)).astype(np.int64)]

    def change_speech(self, speech: Tensor, num_samples: Tensor, drawn: Tensor) -> Tensor:
        """Apply gain, then noise, to speech [N, S]; `num_samples` [N] precede its pads: [N, S] in [-1, 1]."""
        _, gain, snr, noise = drawn[:, : len(_DRAWN), None].unbind(1)
        speech = speech * 10 ** (_between(self.gain_db, gain) / 20)
        if self.snr_db is not None and speech.shape[1]:
            power = speech.square().sum(1, keepdim=True) / num_samples[:, None].clamp(min=1)
            level = (power * 10 ** (-_between(self.snr_db, snr) / 10)).sqrt()
            num_slots = speech.shape[1]
            begin = (noise[:, 0] * _NOISE).long()
            # Rows of a view in which each row begins a sample later: far faster on a CPU than indices.
            noises = _noise(speech.device, 1 + -(-num_slots // _NOISE)).unfold(0, num_slots, 1)
            added = noises.index_select(0, begin)
            pads = torch.arange(num_slots, device=speech.device) >= num_samples[:, None]
            speech += added.mul_(level).masked_fill_(pads, 0)
        return speech.clamp_(-1, 1)

    def change_features(self, features: Tensor, num_frames: Tensor, drawn: Tensor) -> Tensor:
        """Mask features [N, M, F], of which `num_frames` [N] are speech."""
        spans = drawn[:, len(_DRAWN) :].unflatten(1, (-1, 2))
        frames = torch.arange(features.shape[2], device=features.device)
        bins = torch.arange(features.shape[1], device=features.device)
        widest = (num_frames[:, None] * self.time_mask_share).floor()
        in_time = _covered(frames, spans[:, : self.time_masks], widest, num_frames[:, None])
        narrow = min(self.frequency_mask_bins, len(bins))
        in_frequency = _covered(bins, spans[:, self.time_masks :], narrow, len(bins))
        speech = frames < num_frames[:, None]
        return features.masked_fill(in_time[:, None] | (in_frequency[:, :, None] & speech[:, None]), 0.0)


def _between(bounds: tuple[float, float], drawn: Tensor) -> Tensor:
    low, high = bounds
    return low + (high - low) * drawn


def _covered(places: Tensor, spans: Tensor, widest: Tensor | float, room: Tensor | int) -> Tensor:
    """The places [P] that a clip's masks [N, masks, 2] cover, bool [N, P], each inside `room` [N, 1]."""
    widths = (spans[..., 0] * (widest + 1)).floor().clamp(max=widest)
    begins = (spans[..., 1] * (room - widths + 1)).floor().clamp(max=room - widths)
    apart = places - begins[..., None]
    return ((apart >= 0) & (apart < widths[..., None])).any(1)


@cache
def _noise(device: torch.device, times: int) -> Tensor:
    """White noise of power 1, repeated; drawn on the CPU, so that it is the same on every device."""
    return torch.randn(_NOISE, generator=torch.Generator().manual_seed(0)).repeat(times).to(device)
