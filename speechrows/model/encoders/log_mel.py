"""Log-mel features of speech as the extractors of W2v-BERT and Parakeet compute them, on any device.

Both norm each bin over a clip, by the columns that the clip's own samples fill; those after them are zeros.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank
from transformers.audio_utils import window_function

_RATE, _WINDOW, _HOP, _FFT = 16_000, 400, 160, 512  # Hz, samples
_PREEMPHASIS = 0.97
_INT16 = 2.0**15  # Kaldi takes whole numbers
_KALDI_FLOOR, _NEMO_GUARD = 1.192092955078125e-07, 2.0**-24  # of energies, which have a logarithm then


def kaldi_features(speech: Tensor, num_samples: Tensor, num_mels: int) -> tuple[Tensor, Tensor]:
    """The features of transformers' SeamlessM4TFeatureExtractor, before it stacks columns; how many each has.

    Args:
        speech: float32 [N, S] at 16 kHz, zeros after each clip.
        num_samples: int64 [N].
        num_mels: bins.

    Returns:
        float32 [N, S // 160, M], int64 [N].
    """
    window, filters = _kaldi_constants(num_mels, speech.device)
    # In float64, as the extractor: the energies of a column lie further apart than float32 is exact.
    columns = functional.pad(speech.double() * _INT16, (0, _WINDOW - _HOP)).unfold(1, _WINDOW, _HOP)
    columns = columns - columns.mean(-1, keepdim=True)
    before = torch.cat((columns[..., :1], columns[..., :-1]), dim=-1)
    spectrum = torch.fft.rfft((columns - _PREEMPHASIS * before) * window, n=_FFT)
    features = (_energy(spectrum) @ filters).clamp_(min=_KALDI_FLOOR).log_()
    lengths = (num_samples - _WINDOW) // _HOP + 1
    return _normed(features.float(), lengths, before_root=1e-7)


def nemo_features(speech: Tensor, num_samples: Tensor, num_mels: int) -> tuple[Tensor, Tensor]:
    """The features of transformers' ParakeetFeatureExtractor; arguments and results as of kaldi_features."""
    window, filters = _nemo_constants(num_mels, speech.device)
    emphasised = speech - _PREEMPHASIS * functional.pad(speech[:, :-1], (1, 0))
    is_real = torch.arange(speech.shape[1], device=speech.device) < num_samples.unsqueeze(1)
    spectrum = torch.stft(
        emphasised * is_real, _FFT, _HOP, _WINDOW, window, pad_mode="constant", return_complex=True
    )[..., :-1]
    features = (_energy(spectrum).transpose(1, 2) @ filters + _NEMO_GUARD).log_()
    return _normed(features, num_samples // _HOP, after_root=1e-5)


def _energy(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _normed(
    features: Tensor, lengths: Tensor, *, before_root: float = 0.0, after_root: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Features [N, T, M], each bin of a clip with mean 0 and variance 1 over its columns; their number."""
    lengths = lengths.clamp(min=2)  # one column has no variance
    is_real = (torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)).unsqueeze(2)
    count = lengths.view(-1, 1, 1)
    centred = features - (features * is_real).sum(1, keepdim=True) / count
    variance = (centred * is_real).square().sum(1, keepdim=True) / (count - 1)
    return centred / ((variance + before_root).sqrt() + after_root) * is_real, lengths


@cache
def _kaldi_constants(num_mels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The window [400] and the filters [257, M], float64."""
    window = window_function(_WINDOW, "povey", periodic=False)
    filters = mel_filter_bank(
        num_frequency_bins=1 + _FFT // 2,
        num_mel_filters=num_mels,
        min_frequency=20.0,
        max_frequency=_RATE / 2,
        sampling_rate=_RATE,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return torch.from_numpy(window).double().to(device), torch.from_numpy(filters).double().to(device)


@cache
def _nemo_constants(num_mels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The window [400] and the filters [257, M], float32."""
    filters = mel_filter_bank(
        num_frequency_bins=1 + _FFT // 2,
        num_mel_filters=num_mels,
        min_frequency=0.0,
        max_frequency=_RATE / 2,
        sampling_rate=_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    window = torch.hann_window(_WINDOW, periodic=False, device=device)
    return window, torch.from_numpy(filters).float().to(device)
