"""Files of the cache: made once, made again where they are spoilt, whole whoever else makes them."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from datasets import config

from speechrows.errors import UsageError
from speechrows.storage.cache import cached


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "speechrows"


def read(path: Path) -> int:
    return int(path.read_text())


def writing(text: str):
    return lambda path: path.write_text(text)


def test_a_file_is_written_once_and_again_when_it_can_not_be_read(folder: Path) -> None:
    assert cached("number", read, writing("1")) == 1
    assert cached("number", read, writing("2")) == 1
    (folder / "number").write_text("spoilt")
    assert cached("number", read, writing("3")) == 3


def test_an_array_cut_off_anywhere_is_made_again(folder: Path) -> None:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, np.arange(3))

    whole = cached("array.npy", np.load, write)
    data = (folder / "array.npy").read_bytes()
    for size in range(0, len(data), 7):
        (folder / "array.npy").write_bytes(data[:size])
        assert cached("array.npy", np.load, write).tolist() == whole.tolist()
        assert (folder / "array.npy").read_bytes() == data


def test_two_who_write_at_once_both_read_a_whole_file(folder: Path) -> None:
    both = threading.Barrier(2)

    def write(path: Path) -> None:
        path.write_text("half of it")
        both.wait()
        path.write_text("5")

    values: list[int] = []
    threads = [threading.Thread(target=lambda: values.append(cached("number", read, write))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [5, 5]
    assert [path.name for path in folder.iterdir()] == ["number"]


def test_what_can_not_be_written_is_told_and_leaves_nothing_behind(folder: Path) -> None:
    def write(path: Path) -> None:
        path.write_text("half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match=r"No space left on device while number was made.*HF_DATASETS_CACHE"):
        cached("number", read, write)
    assert not [*folder.iterdir()]
    folder.rmdir()
    folder.write_text("a file where the cache should be")
    with pytest.raises(UsageError, match="HF_DATASETS_CACHE"):
        cached("number", read, writing("1"))


def test_files_of_writers_that_were_killed_are_removed_and_no_others(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("killed.tmp", "under-way.tmp", "made"):
        (folder / name).touch()
    for name in ("killed.tmp", "made"):
        os.utime(folder / name, (0, 0))
    cached("number", read, writing("1"))
    assert sorted(path.name for path in folder.iterdir()) == ["made", "number", "under-way.tmp"]
