"""What each preset needs to be trained, in GiB: a table in Markdown, by arithmetic; nothing is downloaded."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from machine import announce
from transformers import AutoModel
from transformers import AutoModelForCausalLM
from transformers import LlamaConfig
from transformers import Qwen3Config
from transformers import SmolLM3Config
from transformers import WhisperConfig

sys.path.append(str(Path(__file__).parent.parent))

from speechrows.model.encoders.kinds import speech_encoder
from speechrows.model.memory import Load
from speechrows.model.memory import Memory
from speechrows.model.memory import memory
from speechrows.model.omni import Omni
from speechrows.model.presets import PRESETS
from speechrows.model.speech_lm import SpeechLM
from speechrows.model.tuning import Tuning

# The sizes in the config.json of each repository.
LARGE: dict[str, Any] = {"encoder_layers": 32, "encoder_attention_heads": 20, "num_mel_bins": 128}
LARGE |= {"d_model": 1280, "encoder_ffn_dim": 5120, "decoder_layers": 0}  # decoders are not read
CONFIGS = {
    "openai/whisper-small": WhisperConfig(
        d_model=768, encoder_layers=12, encoder_attention_heads=12, encoder_ffn_dim=3072, num_mel_bins=80,
        decoder_layers=0,
    ),
    "openai/whisper-large-v3": WhisperConfig(**LARGE),
    "openai/whisper-large-v3-turbo": WhisperConfig(**LARGE),
    "Qwen/Qwen3-0.6B": Qwen3Config(
        hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, vocab_size=151_936, tie_word_embeddings=True,
    ),
    "HuggingFaceTB/SmolLM3-3B": SmolLM3Config(
        hidden_size=2048, intermediate_size=11_008, num_hidden_layers=36, num_attention_heads=16,
        num_key_value_heads=4, vocab_size=128_256, tie_word_embeddings=True,
    ),
    "meta-llama/Llama-3.2-1B-Instruct": LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, vocab_size=128_256, tie_word_embeddings=True,
    ),
    "meta-llama/Llama-3.1-8B-Instruct": LlamaConfig(
        hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=128_256, tie_word_embeddings=False,
    ),
}  # fmt: skip
TRAINED = {
    "all of it in float32": Tuning(),
    "all of it, `--mixed-precision bf16`": Tuning(mixed_precision="bf16"),
    "LoRA": Tuning(freeze_encoder=True, lora_rank=16, dtype="bfloat16", gradient_checkpointing=True),
    "the projector": Tuning(train=("projector",), dtype="bfloat16", gradient_checkpointing=True),
    "all of it, `--shard`, a rank of 8": Tuning(
        mixed_precision="bf16", gradient_checkpointing=True, shard=True
    ),
}


def on_meta(preset: str, tuning: Tuning) -> Omni:
    """A preset's model without values, prepared to be trained."""
    parts = PRESETS[preset]
    with torch.device("meta"), patch("speechrows.model.speech_lm.check_language_model"):  # it needs values
        encoder = speech_encoder(AutoModel.from_config(CONFIGS[parts.encoder]), normalize=False)
        lm = AutoModelForCausalLM.from_config(CONFIGS[parts.lm])
        rate = parts.audio_tokens_per_second
        speech_lm = SpeechLM(encoder, lm, audio_tokens_per_second=rate, audio_token_id=0)
    nothing: Any = None
    model = Omni(speech_lm, nothing, nothing, nothing)
    with torch.device("meta"):
        tuning.prepare(model)
    return model


def load_of(context: int, batch_size: int) -> Load:
    """Half of all slots are audio, and a quarter are learned."""
    slots = context * batch_size
    return Load(sequences=batch_size, slots=context, audio_tokens=slots // 2, supervised=slots // 4)


def needed(preset: str, tuning: Tuning, load: Load, ranks: int = 8) -> Memory:
    return memory(on_meta(preset, tuning), tuning, load, ranks=ranks)


def lines(preset: str, load: Load) -> Iterator[str]:
    """A line of the table for each way to train a preset."""
    for trained, tuning in TRAINED.items():
        needs = needed(preset, tuning, load)
        activations = needs.kept + needs.passing
        columns = (needs.weights, needs.gradients, needs.moments, needs.copies, activations, needs.peak)
        yield f"| `{preset}` | {trained} | {' | '.join(f'{bytes_ / 2**30:.1f}' for bytes_ in columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--context", type=int, default=4096, help="slots of a sequence")
    parser.add_argument("--batch-size", type=int, default=1, help="sequences of a micro-batch")
    arguments = parser.parse_args()
    announce(20)
    print("| preset | what is trained | weights | gradients | moments | copies | activations | at most |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for preset in ("small-omni", "llama-omni-small", "tiny-audio", "llama-omni"):
        for line in lines(preset, load_of(arguments.context, arguments.batch_size)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
