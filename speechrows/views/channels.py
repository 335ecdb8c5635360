"""The channel of a side as samples: its turns' clips where they lie, silence between them."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from speechrows.loader.collate.resample import resampled
from speechrows.loader.collate.resample import resampled_at
from speechrows.loader.collate.speech import SCALE
from speechrows.loader.collate.speech import write_samples
from speechrows.views.conversations import TimedTurn


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
        write_samples(heard, wave)


def _wave(timed: TimedTurn, rate_hz: int, device: torch.device) -> Tensor:
    wave = torch.from_numpy(timed.samples).to(device)
    if timed.clip_rate_hz == rate_hz:
        return wave
    return resampled(wave[None], timed.clip_rate_hz, rate_hz)[0]
