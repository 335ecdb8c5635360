"""Presets of a SpeechLM: a tiny one to run anywhere, and pretrained ones by name."""

from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from transformers import AutoConfig
from transformers import AutoFeatureExtractor
from transformers import AutoModel
from transformers import AutoModelForCausalLM
from transformers import LlamaConfig
from transformers import PreTrainedConfig
from transformers import PreTrainedTokenizerFast
from transformers import WhisperConfig

from speechrows.errors import UsageError
from speechrows.model.encoders.base import SpeechEncoder
from speechrows.model.encoders.kinds import encoder_config
from speechrows.model.encoders.kinds import is_of_raw_speech
from speechrows.model.encoders.kinds import speech_encoder
from speechrows.model.speech_lm import SpeechLM
from speechrows.storage.models import is_from_cache
from speechrows.text.audio_token import audio_token_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A speech encoder and a language model: each a Hub repository or folder, or a config for random weights.

    `load` retokenises rows that were built with another tokenizer or rate.
    """

    encoder: str | PreTrainedConfig
    lm: str | PreTrainedConfig
    audio_tokens_per_second: Fraction
    normalize: bool = False  # see WaveFrames; of an encoder that is named, its feature extractor tells
    head_size: int = 512  # of AudioHead's decoder
    depth_size: int = 256  # of its depformer

    @property
    def tokenizer(self) -> str | None:
        """The name of the language model's tokenizer; None if any tokenizer will do."""
        return self.lm if isinstance(self.lm, str) else None

    @property
    def rate(self) -> float:
        """Audio tokens a second."""
        return float(self.audio_tokens_per_second)


PRESETS = {
    "tiny": Preset(
        encoder=WhisperConfig(
            d_model=64, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=256,
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=64, vocab_size=8,
            num_mel_bins=80, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        ),
        lm=LlamaConfig(
            hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=8192, vocab_size=8,
        ),
        audio_tokens_per_second=Fraction("12.5"),
        head_size=128,
        depth_size=64,
    ),
    "small-omni": Preset(
        encoder="openai/whisper-large-v3-turbo",
        lm="Qwen/Qwen3-0.6B",
        audio_tokens_per_second=Fraction("12.5"),
    ),
    "tiny-audio": Preset(  # the project of that name: 5 frames of 20 ms are a token
        encoder="openai/whisper-large-v3-turbo",
        lm="HuggingFaceTB/SmolLM3-3B",
        audio_tokens_per_second=Fraction(10),
    ),
    "llama-omni-small": Preset(
        encoder="openai/whisper-small",
        lm="meta-llama/Llama-3.2-1B-Instruct",
        audio_tokens_per_second=Fraction(10),
    ),
    "llama-omni": Preset(  # LLaMA-Omni's: 5 frames of 20 ms are a token
        encoder="openai/whisper-large-v3",
        lm="meta-llama/Llama-3.1-8B-Instruct",
        audio_tokens_per_second=Fraction(10),
    ),
}  # fmt: skip


_TO_ENCODER = {r"^(model\.)?(audio_tower|encoder)\.": ""}  # the names of its weights in a whole model


def speech_lm(
    preset: Preset,
    tokenizer: PreTrainedTokenizerFast,
    *,
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
) -> SpeechLM:
    """The SpeechLM of a preset, with the vocabulary of a tokenizer.

    Random weights come from torch's global generator. `attention` is the language model's
    attn_implementation: with `sdpa` and `eager` the mask has T x T entries, so long contexts need
    `flex_attention`, whose mask has blocks.

    Raises:
        UsageError: a model can not be opened; see also SpeechLM, speech_encoder.
    """
    if isinstance(preset.encoder, str):
        encoder = _pretrained_encoder(preset.encoder, dtype)
    else:
        speech: Any = AutoModel.from_config(deepcopy(preset.encoder), dtype=dtype)
        encoder = speech_encoder(speech, normalize=preset.normalize)
    if isinstance(preset.lm, str):
        lm = _pretrained(AutoModelForCausalLM, preset.lm, dtype=dtype, attn_implementation=attention)
    else:
        lm = AutoModelForCausalLM.from_config(deepcopy(preset.lm), dtype=dtype, attn_implementation=attention)
    # The audio token is never embedded, so its first value does not matter.
    lm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return SpeechLM(
        encoder,
        lm,
        audio_tokens_per_second=preset.audio_tokens_per_second,
        audio_token_id=audio_token_id(tokenizer),
    ).to(dtype)


def _pretrained_encoder(name: str, dtype: torch.dtype) -> SpeechEncoder:
    """The encoder of a repository or folder; of a model that hears and writes, its encoder alone is read."""
    whole = _pretrained(AutoConfig, name)
    try:
        config = encoder_config(whole)
    except UsageError as error:
        raise UsageError(f"encoder {name}: {error}") from error
    if config is whole:
        model = _pretrained(AutoModel, name, dtype=dtype)
    else:
        options = {"config": config, "key_mapping": _TO_ENCODER, "output_loading_info": True}
        model, report = _pretrained(AutoModel, name, dtype=dtype, **options)
        if missing := sorted(report["missing_keys"]):
            raise UsageError(
                f"encoder {name}: found no weights for {len(missing)} tensors of its {config.model_type}, as "
                f"{missing[0]}; expected a model as transformers saves it"
            )
    extractor = _pretrained(AutoFeatureExtractor, name) if is_of_raw_speech(config) else None
    return speech_encoder(model, normalize=bool(getattr(extractor, "do_normalize", False)))


def _pretrained(kind: Any, name: str, **options: Any) -> Any:
    """Open a Hub repository or folder with one of transformers' Auto classes."""
    try:
        options["local_files_only"] = is_from_cache(name, "model")
        return kind.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(
            f"model {name}: can not be opened; expected a Hub repository or a folder with weights, and for a "
            f"gated one `hf auth login`. What was found: {' '.join(str(error).split())}"
        ) from error
