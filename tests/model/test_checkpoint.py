"""Checkpoints hold values alone, give back every bit, and are refused whole where they are damaged."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from speechrows.errors import UsageError
from speechrows.model.checkpoint import Saved
from speechrows.model.checkpoint import load
from speechrows.model.checkpoint import load_weights
from speechrows.model.checkpoint import save

SAVED = Saved(
    position={"stage": 1, "step": 7, "done": 7, "loader": {"options": {"budget_seconds": 0.1}}},
    lanes=[{"weight": torch.rand(2, 3, dtype=torch.float64)}, {"count": torch.tensor([3, 1])}],
)


class Tied(nn.Module):
    """Two layers of one weight, as a language model's embedding and head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last.weight = self.first.weight


def model_after(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        model.last(model.first(torch.randn(2, 4))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def gone_on_from(folder: Path) -> Saved:
    model, optimizer = model_after(1)
    load_weights(folder, model)
    return load(folder, model, optimizer, rank=0)


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(1))]


def test_model_optimiser_lanes_position_and_random_numbers_come_back_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = model_after(3)
    save(tmp_path, SAVED, model, optimizer, rank=0)
    expected = draws()
    other, others = model_after(1)
    load_weights(tmp_path, other)
    saved = load(tmp_path, other, others, rank=0)
    assert draws() == expected
    assert saved.position == SAVED.position
    for ours, theirs in zip(saved.lanes, SAVED.lanes, strict=True):
        assert [(name, tensor.tolist(), tensor.dtype) for name, tensor in ours.items()] == [
            (name, tensor.tolist(), tensor.dtype) for name, tensor in theirs.items()
        ]
    assert other.first.weight is other.last.weight
    for _ in range(2):
        for trained, tuner in ((model, optimizer), (other, others)):
            torch.manual_seed(0)
            trained.last(trained.first(torch.randn(2, 4))).square().sum().backward()
            tuner.step()
    assert all(map(torch.equal, other.state_dict().values(), model.state_dict().values()))


def test_no_file_of_a_checkpoint_is_a_pickle_and_each_rank_writes_its_own_alone(tmp_path: Path) -> None:
    save(tmp_path, SAVED, *model_after(1), rank=0)
    save(tmp_path, SAVED, *model_after(1), rank=1)
    written = {path.name for path in tmp_path.iterdir()}
    tensors = {f"{name}.safetensors" for name in ("model", "optimizer", "lanes")}
    assert written == tensors | {"state.json", "random-0.json", "random-1.json"}
    for name in written - tensors:
        json.loads((tmp_path / name).read_text("utf-8"))


SPOIL: dict[str, Callable[[Path], object]] = {
    "a pickle in the place of weights": lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n(S'x'\ntR."),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "nothing": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "a list": lambda path: path.write_text("[1]"),
}


@pytest.mark.parametrize("how", SPOIL)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "lanes.safetensors", "state.json", "random-0.json"]
)
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path, name: str, how: str) -> None:
    save(tmp_path, SAVED, *model_after(1), rank=0)
    SPOIL[how](tmp_path / name)
    if (name, how) == ("random-0.json", "missing"):  # of a rank that the run did not have
        assert gone_on_from(tmp_path).position == SAVED.position
        return
    with pytest.raises(UsageError, match=str(tmp_path)):
        gone_on_from(tmp_path)


def test_a_checkpoint_of_pickles_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "custom_checkpoint_0.pkl").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(UsageError, match=r"found no state.json.*may run code and are not read"):
        gone_on_from(tmp_path)
