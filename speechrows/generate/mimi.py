"""Mimi codes of clips, and the speech of such codes: kyutai/mimi, 8 codebooks of 32, 12.5 frames a second.

Every clip is filled up with zeros to whole frames, as Kyutai's own moshi does (transformers'
MimiModel, given a clip that ends inside a frame, pads each layer instead, and its last frame
differs). Whole frames and causal layers make right padding harmless: a clip's codes are the same
in any batch. What is longer than a step goes through the model's streaming caches, step by step:
the same codes, memory that does not grow with the clip, and on a CPU faster than at once.
"""

import argparse
import hashlib
import os
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechrows.codec import CODECS
from speechrows.codec import num_frames
from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.generate.encode import EncodeReport
from speechrows.generate.encode import run
from speechrows.generate.selection import ClipSelection
from speechrows.generate.waves import RESAMPLER
from speechrows.generate.waves import Float32
from speechrows.generate.workers import by_workers
from speechrows.generate.workers import device_of_workers
from speechrows.generate.writer import SidecarWriter
from speechrows.storage.models import is_from_cache
from speechrows.types import Int16
from speechrows.types import Samples
from speechrows.workers.local import HERE
from speechrows.workers.work import Engine
from speechrows.workers.work import Progress

try:
    import torch
    from transformers import AutoConfig
    from transformers import MimiModel
except ImportError as error:
    raise UsageError(f"found {error}; generate mimi needs: pip install 'speechrows[codec]'") from error

DEFAULT_MODEL = "kyutai/mimi"
SPEC = CODECS["mimi"]
# Of audio, that the model sees at once: what fits a CPU's caches, or keeps a GPU busy in about 8 GB.
BATCH_SECONDS = {"cpu": 2.0, "cuda": 240.0}


class MimiEncoder:
    """A Mimi on a device. See encode.Encoder."""

    def __init__(self, model: MimiModel, device: torch.device, *, batch_seconds: float) -> None:
        self.sampling_rate = SPEC.sampling_rate
        self._step_frames = max(1, int(batch_seconds * SPEC.rate_hz))  # of all clips of a batch together
        self._device = device
        self._model: Any = model
        self._model.to(device)

    def digest(self) -> str:
        """16 hex digits of the weights, wherever they came from."""
        return digest(self._model)

    def encode(self, waves: Sequence[Float32]) -> list[Int16]:
        """Codes int16 [8, F] of clips float32 [S] at 24 kHz; F counts a begun frame."""
        frames = [num_frames(Samples(len(wave)), SPEC.sampling_rate, SPEC) for wave in waves]
        batch = torch.zeros(len(waves), 1, max(frames) * SPEC.frame_size)
        for row, wave in enumerate(waves):
            batch[row, 0, : len(wave)] = torch.from_numpy(wave)
        with torch.inference_mode(), exact_floats():
            codes = self._codes(batch.to(self._device))
        return [padded[:, :length] for padded, length in zip(codes, frames, strict=True)]

    def _codes(self, batch: torch.Tensor) -> Int16:
        """Int16 [N, 8, F] of float32 [N, 1, F * 1920], in steps."""
        step = max(1, self._step_frames // len(batch)) * SPEC.frame_size
        is_stream = batch.shape[-1] > step
        memory: dict[str, Any] = {}
        steps: list[torch.Tensor] = []
        for samples in batch.split(step, dim=-1):
            out: Any = self._model.encode(
                samples, num_quantizers=SPEC.num_codebooks, use_streaming=is_stream, **memory
            )
            steps.append(out.audio_codes.to(torch.int16))
            memory = {
                "encoder_past_key_values": out.encoder_past_key_values,
                "padding_cache": out.padding_cache,
            }
        return torch.cat(steps, dim=-1).cpu().numpy()


class MimiDecoder:
    """A Mimi, opened by name as `load_model` does, that speaks codes."""

    def __init__(self, name: str) -> None:
        self._model: Any = load_model(name)

    def __call__(self, codes: torch.Tensor) -> Int16:
        """The speech of codes int64 [8, F]: samples [F * 1920] at 24 kHz."""
        if not codes.shape[1]:
            return np.empty(0, np.int16)
        with torch.inference_mode():
            (wave,) = self._model.decode(codes.cpu().unsqueeze(0)).audio_values[:, 0].numpy()
        return np.rint(wave.clip(-1, 1) * np.iinfo(np.int16).max).astype(np.int16)


def load_model(model: str) -> MimiModel:
    """A Mimi from a folder or the Hub, in eval mode.

    Raises:
        UsageError: it is no Mimi of kyutai/mimi's frames and codebooks, or weights are missing.
    """
    expected = f"--model {model}: expected a folder or a Hub repository with a Mimi such as {DEFAULT_MODEL}"
    try:
        config: Any = AutoConfig.from_pretrained(
            model, trust_remote_code=False, local_files_only=is_from_cache(model, "--model")
        )
        if config.model_type != "mimi":
            raise UsageError(f"{expected}; found a model of type {config.model_type!r}")
        shape = (config.sampling_rate, config.frame_size, config.codebook_size)
        wanted = (SPEC.sampling_rate, SPEC.frame_size, SPEC.cardinality)
        if shape != wanted or config.num_quantizers < SPEC.num_codebooks:
            raise UsageError(
                f"{expected}: (rate, samples a frame, codes) of {wanted} and {SPEC.num_codebooks} "
                f"codebooks or more; found {shape} and {config.num_quantizers}"
            )
        pair: Any = MimiModel.from_pretrained(
            model,
            dtype=torch.float32,
            output_loading_info=True,
            local_files_only=is_from_cache(model, "--model"),
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"{expected}; found: {first_line(error)}") from error
    loaded, info = pair
    if info["missing_keys"]:
        raise UsageError(f"{expected}; its weights lack {sorted(info['missing_keys'])[:3]} and maybe more")
    return loaded.eval()


def digest(model: torch.nn.Module, *more: torch.Tensor) -> str:
    """16 hex digits of SHA-256 over a model's weights and `more`."""
    hashed = hashlib.sha256()
    weights = model.state_dict()
    for weight in (*(weights[name] for name in sorted(weights)), *more):
        hashed.update(np.ascontiguousarray(weight.detach().cpu().numpy()).view(np.uint8).data)
    return hashed.hexdigest()[:16]


def pick_device(name: str) -> torch.device:
    """The device of `--device`: cpu, cuda (or cuda:1), or auto, a GPU where there is one.

    Raises:
        UsageError: there is none of that name here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in BATCH_SECONDS:
        raise UsageError(f"--device {name}: expected auto, {' or '.join(BATCH_SECONDS)}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs here; give cpu")
    return device


def exact_floats() -> Any:
    """A context in which a GPU's convolutions are float32 to the last bit: TF32 would change codes."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opening:
    """Opens an encoder in any process."""

    model: str
    device: str
    batch_seconds: float

    def __call__(self, _: Progress) -> Callable[[Sequence[Float32]], list[Int16]]:
        device = pick_device(self.device)
        return MimiEncoder(load_model(self.model), device, batch_seconds=self.batch_seconds).encode


def run_mimi(options: argparse.Namespace, engine: Engine = HERE) -> EncodeReport:
    """Run `speechrows generate mimi`: the codes of every clip that --source names."""
    elsewhere = device_of_workers(options.device, engine)
    device = pick_device("cpu" if elsewhere else options.device)
    batch_seconds = options.batch_seconds
    if batch_seconds is None:
        batch_seconds = BATCH_SECONDS[elsewhere or device.type]
    clips = ClipSelection.of(options).clips(audio=True)  # what is wrong with them is said before models load
    encoder = MimiEncoder(load_model(options.model), device, batch_seconds=batch_seconds)
    each = None
    if elsewhere:
        opening = _Opening(model=options.model, device=elsewhere, batch_seconds=batch_seconds)
        each = by_workers(engine, opening, options.model, elsewhere)
    recipe = {
        "kind": "mimi",
        "codec": SPEC.name,
        "model": options.model.rstrip("/").rpartition("/")[2],
        "weights": encoder.digest(),
        "resampled": RESAMPLER,
    }
    with SidecarWriter.open(options.out, recipe, overwrite=options.overwrite) as writer:
        return run(
            clips,
            writer,
            encoder,
            batch_seconds=batch_seconds,
            num_threads=min(16, os.cpu_count() or 1),
            verify=options.verify,
            each=each,
        )
