"""Padded speech at one sampling rate, from clips of any rates and lengths that lie in one buffer."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from speechrows.errors import ShortfallError
from speechrows.loader.collate.resample import resampled
from speechrows.loader.collate.resample import resampled_length
from speechrows.loader.collate.room import Room
from speechrows.loader.plan.order import Int64
from speechrows.loader.ragged import Ragged

_USUAL = 100  # percent
_TOGETHER = 32  # clips of a group, at most: what is computed on the way stays small
SCALE = 2.0**-15  # of int16, to [-1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipLengths:
    """The lengths of N clips on their way to speech, known on the host; arrays are int64 [N].

    A group is at most 32 clips of one rate and speed; `order` are the clips, group after group.
    """

    num_samples: Int64
    rates: Int64
    speeds: Int64  # percent
    resampled: Int64  # samples at the target rate
    lengths: Int64  # the same, at their speed
    rooms: Int64  # samples that their placeholders stand for
    order: Int64

    def of(self, clips: Int64) -> "ClipLengths":
        """The lengths of some of the clips."""
        arrays = {
            name: getattr(self, name)[clips]
            for name in ("num_samples", "rates", "speeds", "resampled", "lengths", "rooms")
        }
        return ClipLengths(**arrays, order=np.lexsort((arrays["speeds"], arrays["rates"])))

    @property
    def width(self) -> int:
        """Samples of the longest, padded."""
        return int(self.rooms.max(initial=0))

    def are_changed(self, sampling_rate: int) -> bool:
        """Whether any clip has another rate or another speed."""
        return bool((self.rates != sampling_rate).any() or (self.speeds != _USUAL).any())

    @property
    def groups(self) -> list[Int64]:
        """The clips of each group."""
        kinds = np.stack([self.rates, self.speeds])[:, self.order]
        changes = np.flatnonzero((np.diff(kinds) != 0).any(0)) + 1
        edges = np.union1d(changes, np.arange(_TOGETHER, len(self.order), _TOGETHER))
        return np.split(self.order, edges) if len(self.order) else []

    @property
    def places(self) -> Int64:
        """Where each clip stands in `order`."""
        return np.argsort(self.order)

    @property
    def sorted(self) -> Int64:
        """`resampled` and `lengths` in `order`: [2, N]."""
        return np.stack([self.resampled, self.lengths])[:, self.order]

    @property
    def in_order(self) -> bool:
        """Whether `order` is 0..N-1."""
        return bool((np.diff(self.order) == 1).all())


def clip_lengths(
    ragged: Ragged, speeds: Int64 | None, sampling_rate: int, tokens_per_second: Fraction
) -> ClipLengths:
    """The lengths of a micro-batch's clips at a sampling rate and at their speeds, [N] in percent.

    Raises:
        ShortfallError: a clip is longer than its placeholders.
    """
    num_samples = ragged.num_samples.astype(np.int64)
    rates = ragged.sampling_rates.astype(np.int64)
    room = sampling_rate / tokens_per_second
    rooms = -(-ragged.num_audio_tokens.astype(np.int64) * room.numerator // room.denominator)
    at_rate = resampled_length(num_samples, rates, sampling_rate)
    if (at_rate > rooms).any():
        i = int((at_rate > rooms).argmax())
        raise ShortfallError(
            f"{ragged.row_ids[ragged.clip_rows[i]]}: its clip is {num_samples[i]} samples at {rates[i]} Hz, "
            f"more than its {ragged.num_audio_tokens[i]} placeholders at {float(tokens_per_second):g} a "
            "second. Load the rows with the rate that they were built with, or build them again"
        )
    if speeds is None:
        speeds = np.full(len(num_samples), _USUAL)
    return ClipLengths(
        num_samples=num_samples,
        rates=rates,
        speeds=speeds,
        resampled=at_rate,
        lengths=resampled_length(at_rate, speeds, _USUAL),
        rooms=rooms,
        order=np.lexsort((speeds, rates)),
    )


def padded_speech(
    waves: Sequence[Tensor],
    clips: ClipLengths,
    lengths: Tensor,
    places: Tensor,
    sampling_rate: int,
    room: Room,
    device: torch.device | str,
) -> Tensor:
    """Convert clips to speech, zeros after each clip.

    Args:
        waves: int16 [num_samples] of each clip, on the device.
        clips: their lengths, rates and speeds.
        lengths: `clips.sorted`, on the device.
        places: `clips.places`, on the device.
        sampling_rate: of the speech, in Hz.
        room: where the speech is written.
        device: where all are.

    Returns:
        float32 [N, clips.width] in [-1, 1].
    """
    device = torch.device(device)
    if not clips.are_changed(sampling_rate):
        return _padded(waves, clips.width, room, device)
    speech = room.take(len(waves), clips.width, device)
    end = 0
    for group in clips.groups:
        span = slice(end, end := end + len(group))
        longest = int(clips.num_samples[group].max())
        padded = _padded([waves[i] for i in group.tolist()], longest, room, device)
        padded = resampled(padded, int(clips.rates[group[0]]), sampling_rate)
        if (speed := int(clips.speeds[group[0]])) != _USUAL:
            padded = resampled(_ended(padded, lengths[0, span]), speed, _USUAL)
        speech[span, : padded.shape[1]] = padded
    _ended(speech, lengths[1]).clamp_(-1, 1)
    return speech if clips.in_order else speech[places]


def _padded(waves: Sequence[Tensor], width: int, room: Room, device: torch.device) -> Tensor:
    """Int16 clips as float32 [N, width] in [-1, 1), zeros after each."""
    speech = room.take(len(waves), width, device)
    sizes = [wave.numel() for wave in waves]
    pieces = speech.view(-1).split([piece for size in sizes for piece in (size, width - size)])
    # A copy a clip; a gather or masked scatter over all samples is five to twenty times slower on a CPU.
    for piece, wave in zip(pieces[::2], waves, strict=True):
        write_samples(piece, wave)
    for piece in pieces[1::2]:
        piece.zero_()
    return speech


def write_samples(place: Tensor, wave: Tensor) -> None:
    """Write samples [S] of int16's range to a place, float32 [S], as [-1, 1)."""
    if place.device.type != "cpu":
        place.copy_(wave).mul_(SCALE)
        return
    # By numpy, which converts int16 in two thirds of torch's time; in two passes, the second in cache: to
    # multiply int16 takes a copy more.
    samples = place.numpy()
    samples[:] = wave.numpy()
    samples *= SCALE


def _ended(waves: Tensor, lengths: Tensor) -> Tensor:
    """Set what a filter left after the ends, [N], of clips [N, S] to zero, in place."""
    return waves.masked_fill_(torch.arange(waves.shape[1], device=waves.device) >= lengths[:, None], 0)
