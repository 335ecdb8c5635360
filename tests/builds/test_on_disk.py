"""What a power cut leaves of a build: a file has its name once it is on disk, and not before."""

import os
from pathlib import Path

import pytest
from toys.building import build_rows
from toys.building import published_files
from toys.samples import XTTS


def test_every_file_of_a_build_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, Path] = {}  # by inode, under the name that it then had

    def record(fd: int) -> None:
        synced[os.fstat(fd).st_ino] = Path(f"/proc/self/fd/{fd}").readlink()

    monkeypatch.setattr(os, "fsync", record)
    build_rows(XTTS, tmp_path)
    commits = [path for path in (tmp_path / ".build/ttt").iterdir() if path.suffix == ".json"]
    made_anew = ("tokenizer/", "assets/")  # at every start
    files = [tmp_path / path for path in published_files(tmp_path) if not path.startswith(made_anew)]
    assert commits
    for path in (*commits, *files):
        assert synced[path.stat().st_ino].is_relative_to(tmp_path / ".build/tmp"), path
