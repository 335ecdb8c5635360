"""Speech encoders of every kind, tiny and with random weights."""

from typing import Any

import torch
from transformers import AudioFlamingo3EncoderConfig
from transformers import AutoModel
from transformers import HubertConfig
from transformers import ParakeetEncoderConfig
from transformers import PreTrainedConfig
from transformers import Qwen2AudioEncoderConfig
from transformers import UniSpeechConfig
from transformers import UniSpeechSatConfig
from transformers import VoxtralEncoderConfig
from transformers import Wav2Vec2BertConfig
from transformers import Wav2Vec2Config
from transformers import WavLMConfig
from transformers import WhisperConfig

from speechrows.model.encoders.base import SpeechEncoder
from speechrows.model.encoders.kinds import speech_encoder

MEL = 20
WHISPER = WhisperConfig(
    d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64, num_mel_bins=MEL,
    decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=8, pad_token_id=0,
    bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, max_source_positions=100,
)  # fmt: skip
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip
LIKE_WHISPER: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64,
    "num_mel_bins": MEL, "max_source_positions": 100,
}  # fmt: skip
WAVE: dict[str, Any] = {
    **SIZES, "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
ENCODERS: dict[str, PreTrainedConfig] = {
    "whisper": WHISPER,
    "qwen2-audio": Qwen2AudioEncoderConfig(**LIKE_WHISPER),
    "audio-flamingo-3": AudioFlamingo3EncoderConfig(**SIZES, num_mel_bins=MEL, max_source_positions=100),
    "voxtral": VoxtralEncoderConfig(**SIZES, num_mel_bins=MEL, max_source_positions=100),
    "wavlm": WavLMConfig(**WAVE),  # as WavLM base: the first convolution is normed over time
    "wavlm-large": WavLMConfig(**WAVE, feat_extract_norm="layer", do_stable_layer_norm=True),
    "hubert": HubertConfig(**WAVE, feat_extract_norm="layer", do_stable_layer_norm=True),
    "wav2vec2": Wav2Vec2Config(**WAVE),
    "unispeech": UniSpeechConfig(**WAVE, feat_extract_norm="layer"),
    "unispeech-sat": UniSpeechSatConfig(**WAVE, feat_extract_norm="layer"),
    "w2v-bert": Wav2Vec2BertConfig(**SIZES),
    "parakeet": ParakeetEncoderConfig(**SIZES, subsampling_conv_channels=8),
}  # fmt: skip


def encoder(name: str) -> SpeechEncoder:
    torch.manual_seed(0)
    encoder_model: Any = AutoModel.from_config(ENCODERS[name])
    return speech_encoder(encoder_model, normalize=name == "wavlm-large").eval()


def mel_of(speech: str) -> int | None:
    """The bins of the features that an encoder takes."""
    return MEL if speech in ("whisper", "qwen2-audio", "audio-flamingo-3", "voxtral") else None
