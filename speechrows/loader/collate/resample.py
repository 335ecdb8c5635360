"""Speech at another rate: a windowed sinc (Kaiser), whatever the pair of rates, on any device."""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

# Of a search over filters on speech, these come nearest to soxr's VHQ: it has the same place of half
# amplitude, and in speech at 16 kHz most of the difference lies there, right below the new band's end.
_HALF_AMPLITUDE = 0.956  # of the lower rate's band
_ZEROS = 72  # zero crossings of the sinc on each side
_BETA = 6.0
# A product makes so many samples, or up to twice as many: by 2, from 24 to 16 kHz, is five times slower.
_BLOCK = 64


def resampled_length(num_samples: Any, old: Any, new: int) -> Any:
    """How many samples a clip has at another rate; of numbers, or of arrays of them."""
    return -(-num_samples * new // old)


def resampled(waves: Tensor, old: int, new: int) -> Tensor:
    """Clips at another rate, each as if silence stood before and after it.

    Args:
        waves: float32, or int16 to be taken as it is, [N, S].
        old: their rate in Hz.
        new: the rate wanted.

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
    made = [taps.narrow(2, first, len(kernel)) @ kernel for first, kernel in products]
    return torch.cat(made, 2).flatten(1)[:, :num_samples]


@cache
def _products(old: int, new: int, device: torch.device) -> tuple[list[tuple[int, Tensor]], int, int]:
    """How a block of samples is made: products, what the block goes on by, and what it sees on each side.

    A product is its first tap, of stride + 2 width, and [taps, samples made of them].
    """
    common = math.gcd(old, new)
    old, new = old // common, new // common
    cutoff = min(old, new) * _HALF_AMPLITUDE
    width = math.ceil(_ZEROS * old / cutoff)
    blocks = -(-_BLOCK // new)
    products: list[tuple[int, Tensor]] = []
    for made in np.array_split(np.arange(blocks * new), blocks * new // _BLOCK):
        first, last = made[[0, -1]] * old // new
        taken = np.arange(first, last + 2 * width + 1) - width
        taps = _filter((taken[:, None] / old - made / new) * cutoff) * (cutoff / old)
        products.append((int(first), torch.from_numpy(taps.astype(np.float32)).to(device)))
    return products, blocks * old, width


def _filter(zeros: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The windowed sinc at places counted in its zero crossings."""
    inside = np.clip(1 - (zeros / _ZEROS) ** 2, 0, None)
    return np.sinc(zeros) * np.i0(_BETA * np.sqrt(inside)) / np.i0(_BETA) * (inside > 0)
