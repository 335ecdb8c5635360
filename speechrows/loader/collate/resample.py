"""Speech at another rate: a windowed sinc (Kaiser), whatever the pair of rates, on any device."""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

# The filter nearest to soxr's VHQ in a search on speech: it falls to half amplitude at the same frequency,
# and in speech at 16 kHz most of the difference lies there, right below the end of the new band.
_HALF_AMPLITUDE = 0.956  # of the lower rate's band
_ZEROS = 72  # zero crossings of the sinc on each side
_BETA = 6.0
# A product makes 64 to 128 samples; one that makes 2, from 24 to 16 kHz, is five times slower.
_BLOCK = 64


def resampled_length(num_samples: Any, old: Any, new: int) -> Any:
    """The samples of a clip at another rate; of numbers, or of arrays of them."""
    return -(-num_samples * new // old)


def resampled(waves: Tensor, old: int, new: int) -> Tensor:
    """Resample clips; each is filtered as if silence stood before and after it.

    Args:
        waves: float32, or int16 to be taken as it is, [N, S].
        old: their rate in Hz.
        new: the target rate.

    Returns:
        float32 [N, ceil(S * new / old)]; `waves` themselves where the rates are equal.
    """
    if old == new:
        return waves
    products, stride, width = _products(old, new, waves.device)
    num_samples = resampled_length(waves.shape[1], old, new)
    num_blocks = -(-num_samples // sum(kernel.shape[1] for _, kernel in products))
    after = num_blocks * stride + width - waves.shape[1]  # negative where the last samples reach no block
    taps = functional.pad(waves.float(), (width, after)).unfold(1, stride + 2 * width, stride)
    # A product of matrices and no conv1d: on a GPU that would round to TF32, and be tuned anew for
    # every length of a batch.
    blocks = [taps.narrow(2, first, len(kernel)) @ kernel for first, kernel in products]
    return torch.cat(blocks, 2).flatten(1)[:, :num_samples]


def resampled_at(wave: Tensor, first: int, old: int, new: int) -> tuple[Tensor, int]:
    """Resample a clip that begins at sample `first` of a channel which is silent around it.

    Args:
        wave: float32, or int16 to be taken as it is, [S].
        first: of the channel at the old rate.
        old: its rate in Hz.
        new: the target rate.

    Returns:
        what the whole channel, resampled, has of the clip, float32 with the filter's ringing before and
        behind it; and the sample at which that begins, which may be before 0.
    """
    common = math.gcd(old, new)
    _, _, width = _products(old, new, wave.device)
    begin = (first - width) // (old // common)
    padded = functional.pad(wave.float(), (first - begin * (old // common), width))
    return resampled(padded[None], old, new)[0], begin * (new // common)


@cache
def _products(old: int, new: int, device: torch.device) -> tuple[list[tuple[int, Tensor]], int, int]:
    """The matrices that make a block of samples, the input samples that it advances by and sees on each side.

    A matrix is [taps, samples] and comes with the first of its taps, which are among stride + 2 width.
    """
    common = math.gcd(old, new)
    old, new = old // common, new // common
    cutoff = min(old, new) * _HALF_AMPLITUDE
    width = math.ceil(_ZEROS * old / cutoff)
    blocks = -(-_BLOCK // new)
    products: list[tuple[int, Tensor]] = []
    for places in np.array_split(np.arange(blocks * new), blocks * new // _BLOCK):
        first, last = places[[0, -1]] * old // new
        inputs = np.arange(first, last + 2 * width + 1) - width
        taps = _filter((inputs[:, None] / old - places / new) * cutoff) * (cutoff / old)
        products.append((int(first), torch.from_numpy(taps.astype(np.float32)).to(device)))
    return products, blocks * old, width


def _filter(zeros: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The windowed sinc at positions measured in its zero crossings."""
    inside = np.clip(1 - (zeros / _ZEROS) ** 2, 0, None)
    return np.sinc(zeros) * np.i0(_BETA * np.sqrt(inside)) / np.i0(_BETA) * (inside > 0)
