"""The best checkpoint: kept by a named metric, whole, and the same however often a run is stopped."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from toys.building import build_rows
from toys.samples import XTTS
from toys.training import run

import train
from speechrows.model import checkpoint
from speechrows.model.best import Best
from speechrows.model.evaluation import Evaluation
from speechrows.model.run_folder import RunFolder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("best") / "rows"
    build_rows(XTTS, out, "ttt")
    return out


def test_less_is_better_but_of_accuracy_and_exact_matches_and_nan_never_is() -> None:
    errors, exact = Best(name="a/ttt/wer"), Best(name="train/exact")
    values = [math.nan, 0.5, 0.25, 0.25, 0.75, None]
    assert [errors.add(step, {errors.name: value}) for step, value in enumerate(values)] == [
        *(False, True, True, False, False, False)
    ]
    assert [exact.add(step, {exact.name: value}) for step, value in enumerate(values)] == [
        *(False, True, False, False, True, False)
    ]
    assert not errors.add(9, {"text_loss": 0.0})
    assert str(errors) == "best a/ttt/wer 0.25 at step 2"


def test_patience_counts_evaluations_since_the_best_each_step_once() -> None:
    best = Best(name="x", patience=2)
    for step, value in ((1, 3.0), (2, 4.0), (2, 4.0)):
        best.add(step, {"x": value})
    assert not best.is_over
    best.add(3, {"x": 2.0})
    best.add(4, {"x": 2.0})
    best.add(5, {"x": 2.0})
    assert best.is_over
    assert "stopped early, after 2 evaluations" in str(best)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The losses that evaluations find, by their number from 0; set by a test."""
    values, count = dict[int, float](), [0]

    def report(self: Evaluation, lanes: Any) -> dict[str, float]:
        count[0] += 1
        return {"heard/ttt/text_loss": values[count[0] - 1]}

    monkeypatch.setattr(Evaluation, "report", report)
    return values


def flags(rows: Path, *more: str) -> list[str]:
    judge = ["--eval", f"heard={rows}:ttt:train", "--eval-every", "1", "--best", "heard/ttt/text_loss"]
    return [*judge, "--budget-seconds", "12", *more]


def step_of(folder: Path) -> int:
    assert checkpoint.damage(folder) is None
    return json.loads((folder / "state.json").read_text("utf-8"))["position"]["done"]


def test_the_best_checkpoint_outlives_the_latest_and_patience_ends_the_run(
    rows: Path, tmp_path: Path, judged: dict[int, float], capsys: Any
) -> None:
    judged |= dict(enumerate([3.0, 2.0, 2.5, 2.1, 9.0]))
    lines = run(rows, tmp_path, *flags(rows, "--steps", "9", "--keep", "1", "--patience", "2"))
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000004"]
    assert step_of(tmp_path / "best") == 2
    assert lines[-1]["step"] == 4
    end = capsys.readouterr().out.splitlines()[-1]
    assert end.startswith("done: 4 steps")
    assert end.endswith(
        "best heard/ttt/text_loss 2 at step 2; stopped early, after 2 evaluations without a better one"
    )
    fresh = run(rows, tmp_path, "--steps", "1", "--budget-seconds", "12", "--overwrite")
    assert fresh
    assert not (tmp_path / "best").exists()


def test_a_resumed_run_knows_the_best_value_and_keeps_its_checkpoint_again(
    rows: Path, tmp_path: Path, judged: dict[int, float], capsys: Any
) -> None:
    judged |= dict(enumerate([3.0, 2.0, 2.5]))  # at steps 1 and 2, and at the end
    run(rows, tmp_path, *flags(rows, "--steps", "3", "--save-every", "1", "--keep", "9"))
    (tmp_path / "checkpoint-00000003").rename(tmp_path.parent / f"{tmp_path.name}-3")
    shutil.rmtree(tmp_path / "best")  # as a kill between the checkpoint and its second name leaves it
    (tmp_path / "best.partial").mkdir()
    judged |= {3: 2.2, 4: 2.3}
    run(rows, tmp_path, *flags(rows, "--steps", "4", "--resume"))
    assert step_of(tmp_path / "best") == 2
    assert "best heard/ttt/text_loss 2 at step 2" in capsys.readouterr().out.splitlines()[-1]
    assert not [*tmp_path.glob("*.partial")]
    weights = load_file(tmp_path / "best/model.safetensors")
    saved = load_file(tmp_path / "checkpoint-00000002/model.safetensors")
    assert all(weights[name].equal(saved[name]) for name in saved)


def test_a_file_system_without_links_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    for number in (1, 2):
        saved = tmp_path / f"checkpoint-0000000{number}"
        saved.mkdir()
        (saved / "state.json").write_text(str(number), "utf-8")
        RunFolder(tmp_path).keep_best(saved)
        assert (tmp_path / "best/state.json").read_text("utf-8") == str(number)
    assert not [*tmp_path.glob("*.partial")]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--best", "heard/ttt/loss"], "There are heard/ttt/text_loss, heard/ttt/wer, heard/ttt/cer"),
        (["--patience", "2"], "--patience: found no --best"),
    ],
)
def test_a_metric_that_no_evaluation_gives_is_refused_before_training(
    rows: Path, tmp_path: Path, capsys: Any, wrong: list[str], message: str
) -> None:
    base = ["--data", str(rows), "--output-dir", str(tmp_path), "--eval", f"heard={rows}:ttt:train"]
    assert train.main([*base, "--eval-decode", "1", *wrong]) == 2
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
