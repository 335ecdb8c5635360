"""The channel of a side as samples: its turns' clips where they lie, silence between them."""

import itertools
from collections.abc import Sequence
from weakref import finalize

import torch
from torch import Tensor

from speechrows.loader.buffers import Buffers
from speechrows.loader.collate.resample import resampled
from speechrows.loader.collate.resample import resampled_at
from speechrows.loader.collate.speech import SCALE
from speechrows.loader.collate.speech import Float32
from speechrows.loader.collate.speech import empty
from speechrows.loader.collate.speech import pageable_floats
from speechrows.views.conversations import TimedTurn


class Room:
    """Room for the channels of batches. On the host, that of batches that are gone is used again."""

    def __init__(self) -> None:
        self._buffers: Buffers[Float32] = Buffers(pageable_floats)

    def take(self, num_channels: int, width: int, device: torch.device) -> Tensor:
        """Room for channels, float32 [num_channels, width], that has to be written."""
        if device.type != "cpu":
            return empty(num_channels, width, device)
        buffer = self._buffers.take(num_channels * width)
        samples = buffer[: num_channels * width].reshape(num_channels, width)
        finalize(samples, self._buffers.lend(buffer)).atexit = False  # the tensor keeps `samples`
        return torch.from_numpy(samples)


def fill(channel: Tensor, turns: Sequence[TimedTurn], conversation_rate_hz: int, rate_hz: int) -> None:
    """Write a channel, float32 [T] at `rate_hz`: the clips of turns that follow one another.

    They lie at the conversation's rate. What comes of it is what resampling the whole channel gives, but
    silence is not resampled.
    """
    if conversation_rate_hz != rate_hz:
        channel.zero_()
        for timed in turns:
            wave = _wave(timed, conversation_rate_hz, channel.device)
            wave, first = resampled_at(wave, timed.first, conversation_rate_hz, rate_hz)
            heard = channel[max(first, 0) : first + len(wave)]
            heard.add_(wave[max(-first, 0) :][: len(heard)], alpha=SCALE).clamp_(-1, 1)
        return
    edges = [0, *(edge for timed in turns for edge in (timed.first, timed.stop)), len(channel)]
    pieces = channel.split([stop - first for first, stop in itertools.pairwise(edges)])
    for silence in pieces[::2]:
        silence.zero_()
    for heard, timed in zip(pieces[1::2], turns, strict=True):
        wave = _wave(timed, conversation_rate_hz, channel.device)
        assert len(wave) == len(heard)  # torch would repeat a single sample
        heard.copy_(wave).mul_(SCALE)  # twice, the second time in cache: torch copies int16 to multiply it


def _wave(timed: TimedTurn, rate_hz: int, device: torch.device) -> Tensor:
    wave = torch.from_numpy(timed.samples).to(device)
    if timed.clip_rate_hz == rate_hz:
        return wave
    return resampled(wave[None], timed.clip_rate_hz, rate_hz)[0]
