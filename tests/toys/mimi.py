"""A Mimi of small random weights, through the real class."""

from pathlib import Path
from typing import Any

import torch
from transformers import MimiConfig
from transformers import MimiModel


def tiny_mimi(folder: Path) -> str:
    """Save a small Mimi with Mimi's own frames and codebooks, as a checkpoint is; the folder."""
    torch.manual_seed(0)
    config = MimiConfig(
        hidden_size=32, num_filters=4, codebook_dim=16, vector_quantization_hidden_dimension=16,
        num_hidden_layers=2, intermediate_size=64, num_attention_heads=2, num_key_value_heads=2,
        num_quantizers=9, upsample_groups=32, sliding_window=25,
    )  # fmt: skip
    mimi: Any = MimiModel(config).eval()
    _spread_codebooks(mimi)
    mimi.save_pretrained(folder)
    return str(folder)


def _spread_codebooks(mimi: Any) -> None:
    """Centroids where the residuals lie: else noise picks the same few codes for ever."""
    with torch.inference_mode():
        latents = mimi.encoder(torch.randn(1, 1, 1920 * 100)).latents
        quantizer = mimi.quantizer
        for half in (
            quantizer.semantic_residual_vector_quantizer,
            quantizer.acoustic_residual_vector_quantizer,
        ):
            left = half.input_proj(latents) if half.input_proj else latents
            for layer in half.layers:
                book = layer.codebook
                book.embed_sum.copy_(torch.randn_like(book.embed_sum) * left.std() + left.mean())
                book._embed = None
                left = left - layer.decode(layer.encode(left))
