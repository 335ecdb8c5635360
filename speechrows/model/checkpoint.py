"""Checkpoints of a training run: JSON and safetensors, which hold values and never code.

A folder has `model.safetensors`, `optimizer.safetensors`, `lanes.safetensors` (the states of stateful
layers), `state.json` (the position, the optimiser's settings) and `random-<rank>.json`.
"""

import json
import os
import random
import re
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
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
from torch import Tensor
from torch import nn

from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.model.divided import share
from speechrows.model.divided import whole
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
    """Write this rank's part of a checkpoint, to disk: rank 0 all that ranks have in common. All ranks call.

    Raises:
        OSError: it can not be written, say because the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _random_file(rank)).write_text(json.dumps(_random_state()), "utf-8")
    sync(folder / _random_file(rank))
    weights = {name: _kept(tensor, rank) for name, tensor in _own(model).items()}
    moments = {
        f"{number}.{name}": _kept(tensor, rank)
        for number, parameter in enumerate(model.parameters())
        for name, tensor in optimizer.state.get(parameter, {}).items()
    }
    if rank > 0:
        return
    try:
        save_file(weights, folder / "model.safetensors")
        save_file(moments, folder / "optimizer.safetensors")
        save_file(_flat(dict(enumerate(saved.lanes))), folder / "lanes.safetensors")
    except SafetensorError as error:  # it tells the system's error by its number
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error
        raise
    state = {"position": saved.position, "num_layers": len(saved.lanes), "trained": _trained(model)}
    (folder / "state.json").write_text(json.dumps(state), "utf-8")
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
    """Give an optimiser of a model's parameters and this rank's random numbers the state of a checkpoint.

    The model has its weights already: see load_weights. A rank that the saved run did not have keeps the
    random numbers of its seed.

    Raises:
        UsageError: it is no checkpoint of such a model, or is damaged.
    """
    with _telling_of(folder):
        state = dict(json.loads((folder / "state.json").read_text("utf-8")))
        if state.get("trained", trained := _trained(model)) != trained:  # 0.1.0 did not tell
            raise ValueError(
                f"a run that trains {len(state['trained'])} tensors, where this one trains {len(trained)} or "
                "others: give --train, --freeze and --lora-… as it had them"
            )
        _load_moments(load_file(folder / "optimizer.safetensors"), model, optimizer)
        lanes = _nested(load_file(folder / "lanes.safetensors"))
        saved = Saved(position=dict(state["position"]), lanes=[lanes[i] for i in range(len(lanes))])
        if any(type(number := saved.position[name]) is not int or number < 0 for name in POSITION):
            raise ValueError(f"position {saved.position!r}")
        if len(saved.lanes) != state["num_layers"]:
            raise ValueError(f"states of {len(lanes)} layers, expected {state['num_layers']}")
        if (folder / _random_file(rank)).is_file():
            _set_random_state(json.loads((folder / _random_file(rank)).read_text("utf-8")))
    return saved


def load_weights(folder: Path, model: nn.Module) -> None:
    """Give a model the weights of a checkpoint, before it is divided among ranks.

    Raises:
        UsageError: it is no checkpoint of such a model, or is damaged.
    """
    if reason := damage(folder):
        raise UsageError(f"{folder}: {reason}")
    with _telling_of(folder):
        load_model(model, str(folder / "model.safetensors"))


@contextmanager
def _telling_of(folder: Path) -> Generator[None]:
    """Tell of errors as those of a checkpoint that is not this run's."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"{folder}: can not be gone on from: found {error!r:.500}; expected the checkpoint of a run with "
            "this model, as train.py saves it"
        ) from error


def _own(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that a model consists of by name, one that has two names once."""
    names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    return {name: tensor for name, tensor in model.state_dict().items() if name in names}


def _kept(tensor: Tensor, rank: int) -> Tensor:
    """A tensor as a checkpoint has it: whole, on rank 0; others have joined in gathering it."""
    gathered = whole(tensor.detach())
    return gathered.contiguous().cpu() if rank == 0 else gathered.new_empty(0)


def _trained(model: nn.Module) -> list[int]:
    """The numbers of the parameters that are trained."""
    return [number for number, parameter in enumerate(model.parameters()) if parameter.requires_grad]


def _load_moments(saved: Tensors, model: nn.Module, optimizer: Any) -> None:
    """Give an optimiser what it knows of each parameter."""
    parameters = [*model.parameters()]
    for number, moments in _nested(saved).items():
        parameter = parameters[number]
        optimizer.state[parameter] = {
            name: share(tensor, parameter) if tensor.dim() else tensor for name, tensor in moments.items()
        }


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
