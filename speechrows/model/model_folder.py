"""Where a trained model lies: in a folder of its own, in a checkpoint of a run, or on the Hub."""

import json
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch import nn
from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.model import checkpoint
from speechrows.model.config import CONFIG
from speechrows.model.config import OmniConfig
from speechrows.model.lora import merged
from speechrows.model.run_folder import RunFolder
from speechrows.storage.disk import sync
from speechrows.storage.filesystem import is_place_here
from speechrows.storage.models import is_from_cache
from speechrows.text import tokenizers

WEIGHTS, TOKENIZER, FLAGS = "model.safetensors", "tokenizer", "train_config.json"


def find(place: Path) -> Path:
    """The folder of a model: itself, or the latest whole checkpoint of a run; `org/name` is downloaded.

    Raises:
        UsageError: there is none.
        StoreError: it is not here, and the Hub can not be reached.
    """
    if not place.exists() and "/" in str(place) and not is_place_here(str(place)):
        return _downloaded(str(place))
    if (place / CONFIG).is_file():
        return place
    checkpoints = RunFolder(place).checkpoints()
    whole = (path for path in reversed(checkpoints) if not checkpoint.damage(path))
    if (latest := next(whole, None)) is None:
        what = (
            "no whole checkpoint" if checkpoints else "no checkpoint" if place.is_dir() else "no such folder"
        )
        raise UsageError(
            f"{place}: found {what}; expected the --output-dir of a run of train.py, one of its checkpoints, "
            "or a folder that Omni.save wrote"
        )
    if not (latest / CONFIG).is_file():
        raise UsageError(
            f"{latest}: found no {CONFIG}; expected that of a model. The run is of an earlier train.py: "
            "--resume it for a step more, and it saves one"
        )
    return latest


def _downloaded(name: str) -> Path:
    wanted = [CONFIG, WEIGHTS, f"{TOKENIZER}/*"]
    try:
        folder = snapshot_download(name, allow_patterns=wanted, local_files_only=is_from_cache(name, "model"))
    except (OSError, ValueError) as error:  # of the Hub, too
        raise UsageError(
            f"model {name}: no such folder, and can not be downloaded ({first_line(error)}); expected a run, "
            "a folder that Omni.save wrote, or a model that push_to_hub uploaded"
        ) from error
    return Path(folder)


def describe(
    folder: Path,
    config: OmniConfig,
    tokenizer: PreTrainedTokenizerFast,
    train_config: Mapping[str, Any] | None = None,
) -> None:
    """Write to disk what is needed beside the weights to use a model, and how it was trained."""
    config.write(folder)
    tokenizers.save(tokenizer, folder / TOKENIZER)
    if train_config is not None:
        (folder / FLAGS).write_text(json.dumps(train_config, indent=1, default=str) + "\n", "utf-8")
    for path in folder.rglob("*"):
        sync(path)


def read_flags(folder: Path) -> dict[str, Any]:
    """The flags of the run that saved a checkpoint, as far as they can be read."""
    try:
        flags: dict[str, Any] = json.loads((folder / FLAGS).read_text("utf-8"))
        return {**flags}
    except (OSError, ValueError, TypeError):
        return {}


def load_weights(model: nn.Module, folder: Path, config: OmniConfig) -> None:
    """Give a model the weights of a folder; adapters among them are merged with the layers that they change.

    Raises:
        UsageError: they are damaged, or another model's.
    """
    try:
        missing, unexpected = _load(model, _read(folder, config))
        if missing or unexpected:
            raise RuntimeError(f"{len(missing)} tensors missing, {len(unexpected)} of another model")
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"{folder / WEIGHTS}: found {first_line(error)}; expected the weights of the model of {CONFIG}"
        ) from error


def begin_from(model: nn.Module, place: Path) -> str:
    """Give a model those weights of another run that fit it; a line that tells which do not.

    Raises:
        UsageError: there is no such run, its weights are damaged, or none fits.
    """
    folder = find(place)
    try:
        saved = _read(folder, OmniConfig.read(folder))
    except (OSError, SafetensorError) as error:
        raise UsageError(f"--init-from {folder / WEIGHTS}: can not be read ({first_line(error)})") from error
    own = model.state_dict()
    fitting = {name: t for name, t in saved.items() if name in own and own[name].shape == t.shape}
    if not fitting:
        raise UsageError(
            f"--init-from {folder}: none of its {len(saved)} tensors fits; expected this --preset"
        )
    missing, _ = _load(model, fitting)
    begun = _parts(missing)
    left = _parts(name for name in saved if name not in fitting)
    return (
        f"--init-from {folder}: {len(fitting)} of {len(saved)} tensors fit"
        + (f"; begun anew: {begun}" if begun else "")
        + (f"; not used: {left}" if left else "")
    )


def _read(folder: Path, config: OmniConfig) -> dict[str, Tensor]:
    weights = load_file(folder / WEIGHTS)
    return merged(weights, config.lora_scale) if config.lora_scale else weights


def _load(model: nn.Module, weights: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Give a model weights; the names of its own that are not among them, and of those that it has not."""
    own = model.state_dict()
    _, unexpected = model.load_state_dict(weights, strict=False)
    given = {own[name].data_ptr() for name in weights if name in own}  # tied weights are saved once
    return [name for name, tensor in own.items() if tensor.data_ptr() not in given], unexpected


def _parts(names: Iterable[str]) -> str:
    """The parts of a model that tensors belong to, with their number."""
    counts = Counter(".".join(name.split(".")[: 1 if name.startswith("audio_head") else 2]) for name in names)
    return ", ".join(f"{part} ({count})" for part, count in counts.items())
