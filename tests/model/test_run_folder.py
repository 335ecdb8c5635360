"""A run's folder: killed at any moment it holds a whole checkpoint; each step is logged once."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from speechrows.errors import FullDiskError
from speechrows.errors import UsageError
from speechrows.model import checkpoint
from speechrows.model.run_folder import RunFolder


def trained(step: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model whose weights are its step, and its optimiser."""
    model = nn.Linear(2, 2)
    for weight in model.parameters():
        nn.init.constant_(weight, step)
    return model, torch.optim.AdamW(model.parameters())


def save(folder: RunFolder, step: int, keep: int = 1) -> None:
    saved = checkpoint.Saved(position={"stage": 0, "step": step, "done": step}, lanes=[])
    checkpoint.save(folder.partial(step), saved, *trained(step), rank=0)
    folder.publish(folder.partial(step), keep)


def killed_at_event(number: int, folder: RunFolder, step: int) -> bool:
    """Save in another process, which kills itself at its n-th use of a file; whether it came to that."""
    if (child := os.fork()) == 0:
        left = number

        def count(event: str, arguments: Any) -> None:
            nonlocal left
            left -= event == "open" or event.startswith(("os.", "shutil."))
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        save(folder, step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def names(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.soak)])  # of events
def test_whenever_a_save_is_killed_the_latest_checkpoint_is_whole_and_the_next_start_tidies_up(
    tmp_path: Path, step: int
) -> None:
    number, latest = 0, set[int]()
    while True:
        number += step
        folder = RunFolder(tmp_path / str(number))
        folder.claim(resume=False, overwrite=False)
        save(folder, 2)
        if not killed_at_event(number, folder, 4):
            break
        folder.claim(resume=True, overwrite=False)
        assert not any(map(checkpoint.damage, folder.checkpoints()))
        model, optimizer = trained(0)
        checkpoint.load_weights(folder.latest(), model)
        done = checkpoint.load(folder.latest(), model, optimizer, rank=0).position["done"]
        assert all((weight == done).all() for weight in model.parameters())
        folder.begin(done)
        assert not [name for name in names(folder) if name.endswith(".partial")]
        latest.add(done)
    assert latest == {2, 4}
    assert number > 10
    assert names(folder) == ["checkpoint-00000004"]


def test_a_latest_checkpoint_that_is_cut_short_is_named_with_the_one_to_go_on_from(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (2, 4, 6):
        save(folder, step, keep=3)
    os.truncate(tmp_path / "checkpoint-00000006/model.safetensors", 100)
    os.truncate(tmp_path / "checkpoint-00000004/state.json", 10)
    with pytest.raises(UsageError) as raised:
        folder.claim(resume=True, overwrite=False)
    text = str(raised.value)
    assert f"{tmp_path}/checkpoint-00000006: model.safetensors is missing, cut short or damaged" in text
    assert "checkpoint-00000002 is whole: delete checkpoint-00000006" in text
    (tmp_path / "checkpoint-00000002/optimizer.safetensors").unlink()
    with pytest.raises(UsageError, match="No checkpoint beside it is whole: begin anew with --overwrite"):
        folder.claim(resume=True, overwrite=False)


def test_lines_after_the_checkpoint_and_a_torn_one_are_cut_when_a_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in range(1, 6):
        folder.log({"step": step, "text_loss": float("nan") if step == 2 else 0.5})
    with folder.metrics.open("a") as file:
        file.write('{"step": 3, "text_l')
    folder.begin(3)
    folder.log({"step": 4, "text_loss": 0.25})
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [line["text_loss"] for line in lines] == [0.5, None, 0.5, 0.25]


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    mine = ["README.md", "checkpoint-00000002.txt", "checkpoint-best", "speechrows", "train.py"]
    (tmp_path / "speechrows").mkdir()
    (tmp_path / "speechrows/events.out.tfevents.1").touch()
    (tmp_path / "speechrows/__init__.py").touch()
    (tmp_path / "checkpoint-best").mkdir()
    for name in ("README.md", "checkpoint-00000002.txt", "train.py"):
        (tmp_path / name).touch()
    save(folder, 2)
    folder.partial(4).mkdir()
    folder.log({"step": 2})
    with pytest.raises(UsageError, match=r"--output-dir .*--resume, or begin anew with --overwrite"):
        folder.claim(resume=False, overwrite=False)
    folder.claim(resume=False, overwrite=True)
    folder.begin(None)
    assert names(folder) == mine
    assert [path.name for path in (tmp_path / "speechrows").iterdir()] == ["__init__.py"]


def test_a_folder_that_can_not_be_made_and_two_ways_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--output-dir .*can not be made"):
        RunFolder(tmp_path / "file/run").claim(resume=False, overwrite=False)
    with pytest.raises(UsageError, match="--resume, --overwrite: found both"):
        RunFolder(tmp_path).claim(resume=True, overwrite=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_told_with_what_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save(folder, 2)
    folder.metrics.symlink_to("/dev/full")
    with pytest.raises(FullDiskError) as raised, folder.telling_what_is_kept(lambda: 3):
        folder.log({"step": 3})
    assert "found no room to write after step 3 (No space left on device)" in str(raised.value)
    assert f"{tmp_path}/checkpoint-00000002 is kept: go on from it with --resume" in str(raised.value)
