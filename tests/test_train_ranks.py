"""train.py on two ranks: the losses of one, no thread left, and a rank that dies."""

import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
from toys import ranks
from toys.building import build_rows
from toys.samples import XTTS
from toys.training import MODES
from toys.training import QUICK
from toys.training import curve
from toys.training import metrics
from toys.training import run

import speechrows

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ranks") / "rows"
    build_rows(XTTS, out, "ttt")
    return out


def launch(*runs: list[str]) -> subprocess.Popen[str]:
    """Runs of train.py on two ranks, one after another."""
    flags = [flag for run in runs for flag in ("--", *run)]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ranks.__file__, "2", *flags]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.parametrize(
    "modes", [{"lanes with TTT": "2"}, pytest.param({"bucket": "3"}, marks=pytest.mark.soak)], ids=" ".join
)
def test_two_ranks_have_the_loss_curve_of_one_and_leave_no_thread_of_their_group(
    rows: Path, tmp_path: Path, modes: dict[str, str]
) -> None:
    flags = {mode: ["--steps", "2", "--micro-batches", m, *MODES[mode]] for mode, m in modes.items()}
    outs = {mode: ["--data", str(rows), "--output-dir", str(tmp_path / mode), *QUICK] for mode in modes}
    two = launch(*([*outs[mode], *flags[mode]] for mode in modes))
    alone = {mode: curve(run(rows, tmp_path / f"{mode} alone", *flags[mode])) for mode in modes}
    output, _ = two.communicate(timeout=120)
    assert two.returncode == 0, output[-3000:]
    assert output.count("at exit:") == 2 * len(modes), output[-3000:]
    assert "gloo" not in output, "a thread that lets go of a tensor while Python ends aborts its rank"
    for mode in modes:
        assert len(alone[mode]) == 2
        for (step, loss, norm), (same_step, same_loss, same_norm) in zip(
            alone[mode], curve(metrics(tmp_path / mode)), strict=True
        ):
            assert step == same_step
            assert loss == pytest.approx(same_loss, rel=1e-4)
            assert norm == pytest.approx(same_norm, rel=1e-2)


@pytest.mark.soak
def test_a_loss_that_is_not_finite_stops_both_ranks_and_is_told_once_with_the_rows_of_both(
    rows: Path, tmp_path: Path
) -> None:
    flags = ["--data", str(rows), "--output-dir", str(tmp_path), *QUICK, "--learning-rate", "1e30"]
    two = launch([*flags, "--steps", "8", "--micro-batches", "2", *MODES["bucket"]])
    output, _ = two.communicate(timeout=120)
    assert two.returncode != 0
    assert output.count("step 3: found a loss of nan") == 1, output[-3000:]
    told = [line for line in output.splitlines() if line.startswith("  deepdialogue_ttt/train/")]
    loader = speechrows.load(str(rows), "ttt", budget_seconds=12, micro_batches=2)
    third = [*islice(loader.endless(), 4, 6)]
    assert sorted(map(str.strip, told)) == sorted(row_id for batch in third for row_id in batch.row_ids)
    assert not [*tmp_path.glob("checkpoint-*")]


@pytest.mark.soak
def test_a_rank_that_dies_stops_the_run_with_a_clear_error_and_one_rank_goes_on(
    rows: Path, tmp_path: Path
) -> None:
    flags = ["--steps", "6", "--save-every", "2", "--micro-batches", "2", *MODES["bucket"]]
    endless = ["--data", str(rows), "--output-dir", str(tmp_path), *QUICK, *flags, "--steps", "100000"]
    two = launch(endless)
    checkpoint = tmp_path / "checkpoint-00000002"
    deadline = time.monotonic() + 90
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    children = subprocess.run(["pgrep", "-P", str(two.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    output, _ = two.communicate(timeout=120)
    assert two.returncode != 0
    # What is told is how the rank died, or that the other one lost it, whichever was seen first.
    assert any(words in output for words in ("SIGKILL", "Signal 9", "remote worker", "Connection closed"))
    latest = int(sorted(tmp_path.glob("checkpoint-????????"))[-1].name.partition("-")[2])
    lines = run(rows, tmp_path, *flags, "--steps", str(latest + 1), "--resume")
    assert curve(lines)[-1][0] == latest + 1
