"""Log-mel features, equal to those of transformers' WhisperFeatureExtractor, without its 30 s."""

from functools import cache

import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

SAMPLING_RATE = 16_000
HOP = 160  # samples from frame to frame
WINDOW = 400
SIDE = WINDOW // 2  # samples on each side that the extractor mirrors at a clip's ends
_SILENCE = -10.0  # log10 of the least energy there is
_RANGE = 8.0  # below the loudest of the clip


def log_mel(speech: Tensor, num_samples: Tensor, num_mels: int) -> Tensor:
    """The features that the extractor gives each clip alone, padded with zeros to its `num_samples`.

    A clip has num_samples // 160 frames. The frames after them hold what silence is in that clip: its
    least value.

    Args:
        speech: float32 [N, S] at 16 kHz, zeros after each clip.
        num_samples: int64 [N], more than 200 and at most S.
        num_mels: bins.

    Returns:
        float32 [N, M, S // 160].
    """
    if not len(speech):
        return speech.new_zeros(0, num_mels, speech.shape[1] // HOP)
    window, filters = _constants(num_mels, speech.device)
    spectrum = torch.stft(_mirrored(speech, num_samples), WINDOW, HOP, window=window, center=False,
                          return_complex=True)[..., :-1]  # fmt: skip
    real, imaginary = torch.view_as_real(spectrum).unbind(-1)
    energy = real.square().addcmul_(imaginary, imaginary)
    features = (filters @ energy).clamp_(min=10**_SILENCE).log10_()
    frames = torch.arange(features.shape[2], device=speech.device)
    features.masked_fill_((frames >= num_samples[:, None] // HOP)[:, None], _SILENCE)
    least = features.amax((1, 2), keepdim=True) - _RANGE
    return torch.maximum(features, least).add_(4.0).div_(4.0)


def _mirrored(speech: Tensor, num_samples: Tensor) -> Tensor:
    """[N, 200 + S + 200]: each clip with its ends mirrored around its first and last padded sample."""
    padded = speech.new_zeros(len(speech), speech.shape[1] + WINDOW)
    padded[:, SIDE:-SIDE] = speech
    padded[:, :SIDE] = speech[:, 1 : SIDE + 1].flip(1)
    away = torch.arange(SIDE, device=speech.device)
    ends = num_samples[:, None]
    return padded.scatter_(1, SIDE + ends + away, speech.gather(1, ends - 2 - away))


@cache
def _constants(num_mels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The window [400] and the filters [M, 201]."""
    filters = mel_filter_bank(
        num_frequency_bins=1 + WINDOW // 2,
        num_mel_filters=num_mels,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=SAMPLING_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.hann_window(WINDOW, device=device), torch.from_numpy(filters.T).float().to(device)
