"""train.py on two ranks: the losses of one, no thread left, and a rank that dies."""

import os
import signal
import subprocess
import sys
import time
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

ROOT = Path(__file__).parents[1]
FORKED = (ranks.__file__, "2")  # each rank names the threads that it still has at its end
BY_TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(ROOT / "train.py"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ranks") / "rows"
    build_rows(XTTS, out, "ttt")
    return out


def launch(how: tuple[str, ...], rows: Path, out: Path, *flags: str) -> subprocess.Popen[str]:
    """train.py on two ranks."""
    command = [sys.executable, *how, "--data", str(rows), "--output-dir", str(out), *QUICK, *flags]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.parametrize(("mode", "micro_batches"), [("bucket", "3"), ("lanes with TTT", "2")])
def test_two_ranks_have_the_loss_curve_of_one_and_leave_no_thread_of_their_group(
    rows: Path, tmp_path: Path, mode: str, micro_batches: str
) -> None:
    flags = ["--steps", "3", "--micro-batches", micro_batches, *MODES[mode]]
    alone = curve(run(rows, tmp_path / "one", *flags))
    two = launch(FORKED, rows, tmp_path / "two", *flags)
    output, _ = two.communicate(timeout=120)
    assert two.returncode == 0, output[-3000:]
    assert output.count("at exit:") == 2, output[-3000:]
    assert "gloo" not in output, "a thread that lets go of a tensor while Python ends aborts its rank"
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
    two = launch(BY_TORCHRUN, rows, tmp_path, *flags, "--steps", "100000")
    checkpoint = tmp_path / "checkpoint-00000002"
    deadline = time.monotonic() + 90
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    children = subprocess.run(["pgrep", "-P", str(two.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    output, _ = two.communicate(timeout=120)
    assert two.returncode != 0
    assert "SIGKILL" in output or "Signal 9" in output
    latest = int(sorted(tmp_path.glob("checkpoint-????????"))[-1].name.partition("-")[2])
    lines = run(rows, tmp_path, *flags, "--steps", str(latest + 1), "--resume")
    assert curve(lines)[-1][0] == latest + 1
