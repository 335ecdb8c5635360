"""Which engine flags choose, and what is said of those that can not be meant."""

import sys
from pathlib import Path

import pytest
from toys.building import build_rows
from toys.samples import XTTS

from speechrows.cli import main
from speechrows.errors import UsageError
from speechrows.generate.workers import device_of_workers
from speechrows.workers.local import HERE

CLIPS = ["--source", "deepdialogue_ttt", "--data-dir", str(XTTS)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = tmp_path_factory.mktemp("engines") / "rows"
    build_rows(XTTS, rows)
    return str(rows)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num-proc", "0"], "--num-proc: found 0, expected at least 1"),
        (["--ray-address", "127.0.0.1:1"], "found --engine local; give --engine ray"),
        (["--engine", "ray", "--ray-address", "127.0.0.1:1"], "expected a cluster that runs. Start one"),
        (["--engine", "slurm"], "invalid choice: 'slurm'"),
    ],
)
def test_an_engine_that_can_not_be_meant_is_answered_in_a_line(
    rows: str, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["validate", rows, *flags])
    except SystemExit as error:
        code = error.code
    assert code == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


def test_without_ray_the_line_says_what_to_install(
    rows: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "speechrows.workers.ray", None)
    assert main(["validate", rows, "--engine", "ray"]) == 2
    assert "--engine ray needs: pip install 'speechrows[ray]'" in capsys.readouterr().err


def test_processes_are_refused_where_one_generates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "traits", *CLIPS, "--out", str(tmp_path), "--num-proc", "2"]) == 2
    assert "--num-proc: one process generates here; expected --engine ray" in capsys.readouterr().err


class Cluster:
    def __init__(self, gpus: int) -> None:
        self.cluster_gpus = gpus


def test_a_model_is_placed_where_the_cluster_has_room_for_it() -> None:
    assert device_of_workers("auto", HERE) is None
    assert [device_of_workers("auto", Cluster(gpus)) for gpus in (0, 2)] == ["cpu", "cuda"]
    with pytest.raises(UsageError, match="--device cuda: the cluster has no GPU"):
        device_of_workers("cuda", Cluster(0))
    with pytest.raises(UsageError, match="--device cuda:1: expected auto, cpu or cuda"):
        device_of_workers("cuda:1", Cluster(2))
