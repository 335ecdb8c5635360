"""Runs that build some shards each, at the same time, into one folder: what an array of jobs does."""

from pathlib import Path
from typing import Any

import pytest
from toys.build_process import ForkedBuild
from toys.building import build_rows
from toys.building import build_some_rows
from toys.building import published_files
from toys.corpus import write_corpus
from toys.samples import XTTS

from speechrows.builds import locks
from speechrows.cli import main
from speechrows.errors import UsageError

SHARDS = 8
OPTIONS: dict[str, Any] = {"shard_bytes": 1, "validation_fraction": 0.3}
BUILD = ["build", "deepdialogue_ttt", "ttt", "--data-dir", str(XTTS), "--out"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("some") / "corpus", dialogues=SHARDS, seconds=1)


def _times(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("ttt-*.parquet")}


def test_runs_at_the_same_time_build_all_shards_and_the_last_one_builds_none_again(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    runs = [ForkedBuild(corpus, out, numbers=(first, first + 3), **OPTIONS) for first in (0, 3)]
    build_some_rows(corpus, out, range(6, SHARDS), **OPTIONS)
    assert [run.wait(30) for run in runs] == [0, 0]
    assert not (out / "README.md").exists()
    before = _times(out)
    assert len(before) >= SHARDS
    build_rows(corpus, out, **OPTIONS)
    assert _times(out) == before
    build_rows(corpus, tmp_path / "at once", **OPTIONS)
    assert published_files(out) == published_files(tmp_path / "at once")


def test_a_build_of_all_shards_and_runs_of_some_keep_each_other_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_some_rows(corpus, tmp_path, range(1), **OPTIONS)
    monkeypatch.setattr(locks, "_ORPHANS_END_WITHIN", 0.1)
    with locks.build_lock(tmp_path, str, is_shared=True):
        build_some_rows(corpus, tmp_path, range(2), **OPTIONS)
        with pytest.raises(UsageError, match="another build is writing here"):
            build_rows(corpus, tmp_path, **OPTIONS)
    with (
        locks.build_lock(tmp_path, str, is_shared=False),
        pytest.raises(UsageError, match="another build is writing here"),
    ):
        build_some_rows(corpus, tmp_path, range(3), **OPTIONS)


def test_the_command_builds_some_and_says_how_the_folder_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*BUILD, str(tmp_path), "--shards", "0-3"]) == 0
    assert "the same command without --shards finishes the folder" in capsys.readouterr().out
    assert not (tmp_path / "README.md").exists()
    for flags, said in (
        (["--shards", "3"], "--shards: found '3', expected numbers such as 0-9"),
        (["--shards", "7-3"], "--shards: found '7-3', expected numbers such as 0-9"),
        (["--shards", "4-9"], "--shards 4-9: found 1 shards of ttt, expected some of 0-0"),
        (["--shards", "0-3", "--overwrite"], "--shards: found --overwrite"),
    ):
        assert main([*BUILD, str(tmp_path), *flags]) == 2
        assert said in capsys.readouterr().err
    assert main([*BUILD, str(tmp_path)]) == 0
    assert (tmp_path / "README.md").exists()


def test_two_copies_of_the_same_shards_at_the_same_time_are_harmless(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs = [ForkedBuild(corpus, out, numbers=(0, SHARDS), **OPTIONS) for _ in range(2)]
    assert [run.wait(30) for run in runs] == [0, 0]
    assert not list((out / ".build/tmp").glob("*.parquet"))
    build_rows(corpus, out, **OPTIONS)
    build_rows(corpus, tmp_path / "once", **OPTIONS)
    assert published_files(out) == published_files(tmp_path / "once")
