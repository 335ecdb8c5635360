"""The channel of a side as samples: its turns' clips where they lie, silence between them."""

import numpy as np
import torch
from torch import Tensor

from speechrows.loader.collate.resample import resampled
from speechrows.loader.collate.resample import resampled_at
from speechrows.loader.collate.speech import SCALE
from speechrows.views.conversations import TimedTurn


def silence(num_channels: int, num_samples: int, device: torch.device) -> Tensor:
    """Channels without a sound, float32 [B, T]."""
    if device.type != "cpu":
        return torch.zeros(num_channels, num_samples, device=device)
    # Of numpy's, memory in which nothing is ever said is never touched.
    return torch.from_numpy(np.zeros((num_channels, num_samples), np.float32))


def add_clip(channel: Tensor, timed: TimedTurn, conversation_rate_hz: int, rate_hz: int) -> None:
    """Add a turn's clip to a channel, float32 [T] at `rate_hz`; the clip lies at the conversation's rate.

    What comes of it is what resampling the whole channel gives, but silence is not resampled.
    """
    wave = torch.from_numpy(timed.samples).to(channel.device)
    if timed.clip_rate_hz != conversation_rate_hz:
        wave = resampled(wave[None], timed.clip_rate_hz, conversation_rate_hz)[0]
    if conversation_rate_hz == rate_hz:
        # A turn that lies beside another shares no sample with it.
        torch.mul(wave, SCALE, out=channel[timed.first : timed.stop])
        return
    wave, first = resampled_at(wave, timed.first, conversation_rate_hz, rate_hz)
    heard = channel[max(first, 0) : first + len(wave)]
    heard.add_(wave[max(-first, 0) :][: len(heard)], alpha=SCALE).clamp_(-1, 1)
