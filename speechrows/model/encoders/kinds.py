"""The kinds of speech encoders, by the model_type of their configs, and which of them a model has."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig
from transformers import PreTrainedModel

from speechrows.errors import UsageError
from speechrows.model.encoders.base import SpeechEncoder
from speechrows.model.encoders.conformer import ParakeetFrames
from speechrows.model.encoders.conformer import W2vBertFrames
from speechrows.model.encoders.wave import WaveFrames
from speechrows.model.encoders.whisper import WhisperFrames

# Left out are those in whose convolutions a clip's frames change with the pads after it, and those whose
# frames a second divide into no rate that is a decimal number (Moonshine: 125/3).
KINDS: Mapping[str, tuple[str, type[SpeechEncoder]]] = {
    "whisper": ("Whisper", WhisperFrames),
    "qwen2_audio_encoder": ("Qwen2-Audio", WhisperFrames),
    "audioflamingo3_encoder": ("Audio Flamingo 3", WhisperFrames),
    "voxtral_encoder": ("Voxtral", WhisperFrames),
    "wav2vec2": ("wav2vec 2.0", WaveFrames),
    "wavlm": ("WavLM", WaveFrames),
    "hubert": ("HuBERT", WaveFrames),
    "unispeech": ("UniSpeech", WaveFrames),
    "unispeech-sat": ("UniSpeech-SAT", WaveFrames),
    "wav2vec2-bert": ("W2v-BERT 2.0", W2vBertFrames),
    "parakeet_encoder": ("Parakeet", ParakeetFrames),
}


def encoder_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config of the encoder in a model: of one that hears and writes, that of its part that hears.

    Raises:
        UsageError: it is of no known kind.
    """
    parts: Any = (getattr(config, name, None) for name in ("audio_config", "encoder_config"))
    part: PreTrainedConfig = next(filter(None, parts), config)
    if part.model_type not in KINDS:
        known = ", ".join(name for name, _ in KINDS.values())
        raise UsageError(f"speech encoder: found {part.model_type}, expected one of {known}")
    if getattr(part, "add_adapter", False):
        raise UsageError(
            f"speech encoder: found {part.model_type} with an adapter, which changes its frames a second; "
            "expected one without: set add_adapter to false in its config.json"
        )
    return part


def is_of_raw_speech(config: PreTrainedConfig) -> bool:
    """Whether an encoder of a known kind is one of raw speech, whose extractor tells how it is normed."""
    return KINDS[config.model_type][1] is WaveFrames


def speech_encoder(model: PreTrainedModel, *, normalize: bool) -> SpeechEncoder:
    """The encoder of a speech model of transformers. `normalize`: see WaveFrames.

    Raises:
        UsageError: no encoder of a known kind.
    """
    encoder: Any = model.get_encoder() if model.config.is_encoder_decoder else model
    _, kind = KINDS[encoder_config(encoder.config).model_type]
    return WaveFrames(encoder, normalize=normalize) if kind is WaveFrames else kind(encoder)
