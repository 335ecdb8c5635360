"""train.py: a tiny real model learns; stopped anywhere it goes on bit for bit; ranks change nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from building import build_rows
from building import made_up
from conftest import XTTS
from safetensors.torch import load_file

import train

ROOT = Path(__file__).parents[1]
QUICK = ["--learning-rate", "1e-3", "--warmup-steps", "2", "--log-every", "1"]
MODES = {
    "bucket": ["--budget-seconds", "12"],
    "lanes with TTT": ["--mode", "lanes", "--context", "512", "--batch-size", "2", "--ttt-layers", "1"],
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "rows"
    build_rows(XTTS, out, "ttt")
    build_rows(XTTS, out, "transcription")
    return out


def run(rows: Path, out: Path, *flags: str) -> list[dict[str, Any]]:
    """A run in this process; the lines of its metrics."""
    assert train.main(["--data", str(rows), "--output-dir", str(out), *QUICK, *flags]) == 0
    return metrics(out)


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]


def curve(lines: list[dict[str, Any]]) -> list[tuple[int, float, float]]:
    return [(one["step"], one["text_loss"], one["grad_norm"]) for one in lines if "text_loss" in one]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted(out.glob("checkpoint-*"))[-1] / "model.safetensors")


def test_every_field_of_the_config_is_a_flag_and_its_default_the_flags() -> None:
    assert train.TrainConfig.parse([]) == train.TrainConfig()
    given = train.TrainConfig.parse(
        ["--eval", "a=b", "--eval", "c=d:e:f", "--budget-seconds", "3", "--resume"]
    )
    assert (given.eval, given.budget_seconds, given.resume) == (("a=b", "c=d:e:f"), 3.0, True)


def test_a_tiny_model_learns_its_rows_within_a_hundred_steps(rows: Path, tmp_path: Path) -> None:
    lines = curve(run(rows, tmp_path, "--steps", "100", "--budget-seconds", "30"))
    assert lines[-1][1] < lines[0][1] / 2


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(rows: Path, tmp_path: Path, mode: str) -> None:
    straight = run(rows, tmp_path / "straight", "--steps", "7", *MODES[mode])
    run(rows, tmp_path / "stopped", "--steps", "7", "--save-every", "4", *MODES[mode])
    for late in sorted((tmp_path / "stopped").glob("checkpoint-*"))[1:]:
        late.rename(tmp_path / late.name)
    resumed = run(rows, tmp_path / "stopped", "--steps", "7", "--resume", *MODES[mode])
    assert curve(resumed)[-3:] == curve(straight)[-3:]
    expected, found = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def launch(ranks: int, rows: Path, out: Path, *flags: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone",
        str(ROOT / "train.py"), "--data", str(rows), "--output-dir", str(out), *QUICK, *flags,
    ]  # fmt: skip
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.parametrize(("mode", "micro_batches"), [("bucket", "3"), ("lanes with TTT", "2")])
def test_two_ranks_have_the_loss_curve_of_one(
    rows: Path, tmp_path: Path, mode: str, micro_batches: str
) -> None:
    flags = ["--steps", "4", "--micro-batches", micro_batches, *MODES[mode]]
    alone = curve(run(rows, tmp_path / "one", *flags))
    two = launch(2, rows, tmp_path / "two", *flags)
    said, _ = two.communicate(timeout=120)
    assert two.returncode == 0, said[-3000:]
    for (step, loss, norm), (same_step, same_loss, same_norm) in zip(
        alone, curve(metrics(tmp_path / "two")), strict=True
    ):
        assert step == same_step
        assert loss == pytest.approx(same_loss, rel=1e-4)
        assert norm == pytest.approx(same_norm, rel=1e-2)


def test_a_rank_that_dies_stops_the_run_with_a_clear_error_and_one_rank_goes_on(
    rows: Path, tmp_path: Path
) -> None:
    flags = ["--steps", "6", "--save-every", "2", "--micro-batches", "2", *MODES["bucket"]]
    two = launch(2, rows, tmp_path, *flags, "--steps", "100000")
    checkpoint = tmp_path / "checkpoint-00000002"
    deadline = time.monotonic() + 90
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    children = subprocess.run(["pgrep", "-P", str(two.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    said, _ = two.communicate(timeout=120)
    assert two.returncode != 0
    assert "SIGKILL" in said or "Signal 9" in said
    latest = int(sorted(tmp_path.glob("checkpoint-????????"))[-1].name.partition("-")[2])
    lines = run(rows, tmp_path, *flags, "--steps", str(latest + 1), "--resume")
    assert curve(lines)[-1][0] == latest + 1


def test_the_curriculum_has_the_founding_stages_in_order(rows: Path, tmp_path: Path) -> None:
    flags = ["--data", str(rows), "--output-dir", str(tmp_path), "--curriculum", "--mode", "lanes"]
    trainer = train.Trainer(train.TrainConfig.parse(flags))
    found: list[tuple[str, int | None, float]] = []
    for number in range(len(trainer.stages)):
        trainer.begin(number)
        (group,) = trainer.optimizer.param_groups
        found.append((trainer.loader.index.config, trainer.loader.options.context, group["initial_lr"]))
    assert found == [
        ("stage_1", 8192, 1e-4),
        ("stage_2", 16384, 5e-5),
        ("stage_3", 32768, 2e-5),
        ("stage_4", 65536, 1e-5),
    ]


def test_each_named_set_is_evaluated_by_task(rows: Path, tmp_path: Path) -> None:
    sets = ["--eval", f"same={rows}:ttt:train", "--eval", f"other={rows}:transcription:train"]
    lines = run(rows, tmp_path, "--steps", "1", *sets)
    assert {*lines[-1]} == {"stage", "step", "same/ttt/text_loss", "other/transcription/text_loss"}
    assert all(2 < lines[-1][name] < 8 for name in lines[-1] if "loss" in name)


def test_the_codec_loss_falls_beside_the_text_loss(rows: Path, tmp_path: Path) -> None:
    codes = made_up(rows, "mimi", tmp_path / "codes")
    build_rows(XTTS, tmp_path / "rows", "s2s_mimi", generated=(codes,))
    lines = run(tmp_path / "rows", tmp_path / "run", "--config", "s2s_mimi", "--steps", "20")
    assert lines[18]["codec_loss"] < lines[0]["codec_loss"]
    assert lines[18]["text_loss"] < lines[0]["text_loss"]
    first = lines[0]
    assert first["codec_loss"] == pytest.approx(first["codebook_0_loss"] + first["depth_loss"])


def test_calls_that_are_wrong_say_what_to_do(rows: Path, tmp_path: Path, capsys: Any) -> None:
    base = ["--data", str(rows), "--output-dir", str(tmp_path)]
    assert train.main([*base, "--resume"]) == 2
    assert "found no checkpoint" in capsys.readouterr().err
    assert train.main([*base, "--steps", "0", "--eval", "unnamed"]) == 2
    assert "expected NAME=PATH" in capsys.readouterr().err
    assert train.main([*base, "--config", "stage_9"]) == 2
    assert "no config 'stage_9'" in capsys.readouterr().err
