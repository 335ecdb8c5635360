"""train.py on two ranks: the losses of one, no thread left, and a rank that dies."""

import os
import shutil
import signal
import subprocess
import time
from itertools import islice
from pathlib import Path

import pytest
from toys import ranks
from toys.building import build_rows
from toys.building import made_up
from toys.processes import Forked
from toys.samples import XTTS
from toys.training import MODES
from toys.training import QUICK
from toys.training import curve
from toys.training import metrics
from toys.training import run

import speechrows


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    out = place / "rows"
    build_rows(XTTS, out, "ttt")
    build_rows(XTTS, place / "heard", "transcription")
    codes = made_up(place / "heard", "mimi", place / "codes")
    build_rows(XTTS, out, "s2s_mimi", generated=(codes,))
    return out


def launch(*runs: list[str]) -> Forked:
    """Runs of train.py on two ranks, one after another."""
    return Forked(ranks.launch, 2, *runs)


PACK = ["--mode", "pack", "--context", "512", "--batch-size", "1"]
LORA = ["--lora-rank", "4", "--gradient-checkpointing", "--freeze-encoder"]
SPEECH = ["--config", "s2s_mimi", "--budget-seconds", "6"]
CASES = {
    "lanes with TTT": ["--micro-batches", "2", *MODES["lanes with TTT"]],
    "bucket, and a rank that waits": ["--micro-batches", "3", *MODES["bucket"]],
    "pack with LoRA": ["--micro-batches", "2", *PACK, *LORA, "--dtype", "bfloat16"],
    "pack, and a rank that waits": ["--micro-batches", "3", *PACK, "--ttt-at", "0", "--ttt-layers", "1"],
    "a speech decoder alone": ["--micro-batches", "2", *SPEECH, "--train", "^audio_head"],
    "speech": ["--micro-batches", "2", *SPEECH],
}
IN_SUITE = "lanes with TTT"


@pytest.mark.parametrize(
    "case", [case if case == IN_SUITE else pytest.param(case, marks=pytest.mark.soak) for case in CASES]
)
def test_two_ranks_have_the_loss_curve_of_one_each_with_the_model_or_with_a_share_of_it(
    rows: Path, tmp_path: Path, case: str
) -> None:
    flags = ["--steps", "2", *CASES[case]]
    each, shares = (["--data", str(rows), "--output-dir", str(tmp_path / out), *QUICK] for out in "ab")
    two = launch([*each, *flags], [*shares, *flags, "--shard"])
    alone = curve(run(rows, tmp_path / "alone", *flags))
    output = "".join(two.communicate(timeout=240))
    assert two.returncode == 0, output[-3000:]
    ends = [line for line in output.splitlines() if line.startswith("at exit:")]
    assert len(ends) == 4, output[-3000:]
    whole = "a thread that lets go of a tensor while Python ends aborts its rank"
    assert not any("gloo" in end for end in ends[:2]), whole
    assert len(alone) == 2
    close = 2e-2 if "bfloat16" in flags else 1e-4
    for out in "ab":
        of_two = curve(metrics(tmp_path / out))
        for (step, loss, norm), (same_step, same_loss, same_norm) in zip(alone, of_two, strict=True):
            assert step == same_step
            assert loss == pytest.approx(same_loss, rel=close)
            assert norm == pytest.approx(same_norm, rel=1e-2 if "bfloat16" not in flags else 0.1)


@pytest.mark.soak
def test_a_checkpoint_of_shares_is_gone_on_from_by_one_rank_and_one_rank_s_by_shares(
    rows: Path, tmp_path: Path
) -> None:
    flags = ["--steps", "3", "--save-every", "2", "--keep", "9", *CASES["lanes with TTT"]]
    alone = curve(run(rows, tmp_path / "alone", *flags))
    shutil.copytree(tmp_path / "alone", tmp_path / "to share")
    shutil.rmtree(tmp_path / "to share/checkpoint-00000003")
    of = {
        out: ["--data", str(rows), "--output-dir", str(tmp_path / out), *QUICK, *flags, "--shard"]
        for out in ("to share", "shared")
    }
    two = launch(of["shared"], [*of["to share"], "--resume"])
    output = "".join(two.communicate(timeout=240))
    assert two.returncode == 0, output[-3000:]
    shutil.rmtree(tmp_path / "shared/checkpoint-00000003")
    run(rows, tmp_path / "shared", *flags, "--resume")
    for out in ("to share", "shared"):
        assert curve(metrics(tmp_path / out))[-1][1] == pytest.approx(alone[-1][1], rel=1e-4)


@pytest.mark.soak
def test_a_loss_that_is_not_finite_stops_both_ranks_and_is_told_once_with_the_rows_of_both(
    rows: Path, tmp_path: Path
) -> None:
    flags = ["--data", str(rows), "--output-dir", str(tmp_path), *QUICK, "--learning-rate", "1e30"]
    two = launch([*flags, "--steps", "8", "--micro-batches", "2", *MODES["bucket"]])
    output = "".join(two.communicate(timeout=120))
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
    output = "".join(two.communicate(timeout=120))
    assert two.returncode != 0
    # What is told is how the rank died, or that the other one lost it, whichever was seen first.
    assert any(words in output for words in ("SIGKILL", "Signal 9", "remote worker", "Connection closed"))
    latest = int(sorted(tmp_path.glob("checkpoint-????????"))[-1].name.partition("-")[2])
    lines = run(rows, tmp_path, *flags, "--steps", str(latest + 1), "--resume")
    assert curve(lines)[-1][0] == latest + 1
