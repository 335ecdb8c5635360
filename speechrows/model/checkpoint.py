"""Checkpoints of a training run: JSON and safetensors, which hold values and never code.

A folder has `model.safetensors`, `optimizer.safetensors`, `lanes.safetensors` (the states of stateful
layers), `state.json` (the position, the optimiser's settings) and `random-<rank>.json`.
"""

import json
import os
import random
import re
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import load_model
from safetensors.torch import save_file
from safetensors.torch import save_model
from torch import Tensor
from torch import nn

from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.storage.disk import sync

Tensors = Mapping[str, Tensor]
POSITION = ("stage", "step", "done")  # numbers of a trainer's position
FILES = ("model.safetensors", "optimizer.safetensors", "lanes.safetensors", "state.json")  # of rank 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What a checkpoint tells a trainer: its position, in plain values, and the lanes of each layer."""

    position: Mapping[str, Any]
    lanes: Sequence[Tensors]


def save(folder: Path, saved: Saved, model: nn.Module, optimizer: Any, *, rank: int) -> None:
    """Write this rank's part of a checkpoint, to disk: rank 0 all that ranks have in common.

    Raises:
        OSError: it can not be written, say because the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _random_file(rank)).write_text(json.dumps(_random_state()), "utf-8")
    sync(folder / _random_file(rank))
    if rank > 0:
        return
    state = optimizer.state_dict()
    try:
        save_model(model, str(folder / "model.safetensors"))
        save_file(_flat(state["state"]), folder / "optimizer.safetensors")
        save_file(_flat(dict(enumerate(saved.lanes))), folder / "lanes.safetensors")
    except SafetensorError as error:  # it tells the system's error by its number
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error
        raise
    whole = {"position": saved.position, "optimizer": state["param_groups"], "num_layers": len(saved.lanes)}
    (folder / "state.json").write_text(json.dumps(whole), "utf-8")
    for name in FILES:
        sync(folder / name)


def damage(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None where all are there and as long as they say.

    Their headers are read, not their tensors: it takes no time.
    """
    if not (folder / "state.json").is_file():
        return (
            "found no state.json; expected a checkpoint of JSON and safetensors. If it has .pkl or .bin "
            "files it is of an earlier train.py: those may run code and are not read. Go on with the version "
            "that wrote it, or begin anew"
        )
    for path in [*(folder / name for name in FILES), *sorted(folder.glob("random-*.json"))]:
        try:
            if path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
            else:
                with safe_open(path, framework="pt"):
                    pass
        except (OSError, ValueError, SafetensorError) as error:
            return f"{path.name} is missing, cut short or damaged ({first_line(error)})"
    return None


def load(folder: Path, model: nn.Module, optimizer: Any, *, rank: int) -> Saved:
    """Give a model, its optimiser and this rank's random numbers the state of a checkpoint.

    A rank that the saved run did not have keeps the random numbers of its seed.

    Raises:
        UsageError: it is no checkpoint of such a model, or is damaged.
    """
    if reason := damage(folder):
        raise UsageError(f"{folder}: {reason}")
    try:
        whole = json.loads((folder / "state.json").read_text("utf-8"))
        load_model(model, str(folder / "model.safetensors"))
        states = _nested(load_file(folder / "optimizer.safetensors"))
        optimizer.load_state_dict({"state": states, "param_groups": whole["optimizer"]})
        lanes = _nested(load_file(folder / "lanes.safetensors"))
        saved = Saved(position=dict(whole["position"]), lanes=[lanes[i] for i in range(len(lanes))])
        if any(type(number := saved.position[name]) is not int or number < 0 for name in POSITION):
            raise ValueError(f"position {saved.position!r}")
        if len(saved.lanes) != whole["num_layers"]:
            raise ValueError(f"states of {len(lanes)} layers, expected {whole['num_layers']}")
        if (folder / _random_file(rank)).is_file():
            _set_random_state(json.loads((folder / _random_file(rank)).read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"{folder}: can not be gone on from: found {error!r:.500}; expected the checkpoint of a run with "
            "this model, as train.py saves it"
        ) from error
    return saved


def _random_file(rank: int) -> str:
    return f"random-{rank}.json"


def _random_state() -> dict[str, Any]:
    """The states of all generators of this process, in plain values."""
    name, keys, *rest = np.random.get_state(legacy=True)
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [device.tolist() for device in devices],
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([torch.tensor(device, dtype=torch.uint8) for device in state["cuda"]])


def _flat(states: Mapping[int, Tensors]) -> dict[str, Tensor]:
    """The tensors of numbered states by `number.name`, each with memory of its own."""
    return {
        f"{number}.{name}": tensor.detach().contiguous()
        for number, tensors in states.items()
        for name, tensor in tensors.items()
    }


def _nested(flat: Tensors) -> dict[int, dict[str, Tensor]]:
    """`_flat` undone."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = tensor
    return states
