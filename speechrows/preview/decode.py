"""Decode a row's codes to sound, where the codec's weights are on this machine already."""

import io
import threading
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import soundfile
from huggingface_hub import try_to_load_from_cache

from speechrows.codec import CODECS
from speechrows.types import Int16

MODELS = {"mimi": "kyutai/mimi"}
_LOCK = threading.Lock()  # one clip at a time: a model takes every core as it is


def why_not(codec: str) -> str | None:
    """Return why codes of a codec can not be decoded here; None where they can."""
    if codec not in MODELS:
        return f"speechrows has no decoder for {codec}"
    if find_spec("torch") is None:
        return "torch is not installed: pip install 'speechrows[codec]'"
    if not isinstance(try_to_load_from_cache(MODELS[codec], "model.safetensors"), str):
        return f"the codec's weights are not on this machine: hf download {MODELS[codec]}"
    return None


def decode(codec: str, codes: Int16) -> bytes:
    """Decode codes int16 [K, F] to WAV bytes; downloads nothing. Call `why_not` first."""
    import torch  # noqa: PLC0415  # the page works without

    with _LOCK, torch.inference_mode():
        model = _model(MODELS[codec])
        out = model.decode(torch.from_numpy(codes.astype(np.int64))[None])
    wav = io.BytesIO()
    samples = out.audio_values[0, 0].float().clamp(-1, 1).numpy()
    soundfile.write(wav, samples, CODECS[codec].sampling_rate, format="WAV", subtype="PCM_16")
    return wav.getvalue()


@lru_cache(1)
def _model(name: str) -> Any:
    from transformers import MimiModel  # noqa: PLC0415

    model: Any = MimiModel.from_pretrained(name, local_files_only=True)
    return model.eval()
