"""Folders of generated columns: written whole or not at all, taken up where a run ended."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import FEW
from toys.processes import start_python

from speechrows.errors import UsageError
from speechrows.generate import writer as writer_module
from speechrows.generate.writer import SidecarWriter

ANSWERS = {"kind": "sift_s", "model": "toy", "temperature": 0.8}
CODES = {"kind": "mimi", "codec": "mimi", "model": "toy"}
UNITS = {"kind": "units", "codec": "toy_units"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "ROWS_PER_FILE", 5)
    monkeypatch.setattr(writer_module, "ROWS_PER_GROUP", 2)


def fill(folder: Path, clips: range, recipe: dict[str, Any] = ANSWERS) -> list[str]:
    """Add what is missing of these clips, as a run would; what it made."""
    added: list[str] = []
    with SidecarWriter.open(folder, recipe) as writer:
        for i in clips:
            if f"clip/{i}" not in writer:
                writer.add(f"clip/{i}", f"answer {i}", is_cut=i % 3 == 0)
                added.append(f"clip/{i}")
    return added


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_what_was_added_is_there_in_its_order_with_its_recipe(tmp_path: Path) -> None:
    fill(tmp_path, range(12))
    assert [row["clip_id"] for row in rows(tmp_path)] == [f"clip/{i}" for i in range(12)]
    assert rows(tmp_path)[3] == {"clip_id": "clip/3", "answer": "answer 3", "is_cut": True, "reason": None}
    assert sorted(files(tmp_path)) == [f"part-{i:05d}.parquet" for i in range(3)]
    metadata = (pq.read_schema(tmp_path / "part-00001.parquet").metadata or {})[b"speechrows_generated"]
    assert metadata == b'{"kind": "sift_s", "model": "toy", "temperature": 0.8}'


@FEW
@given(stops=st.lists(st.integers(0, 23), max_size=4))
def test_runs_that_stopped_anywhere_end_in_the_files_of_one_that_did_not(
    stops: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole, torn = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("torn")
    fill(whole, range(23))
    added = [clip for stop in [*stops, 23] for clip in fill(torn, range(stop))]
    assert sorted(added) == sorted({f"clip/{i}" for i in range(23)}), "nothing is made twice"
    assert files(torn) == files(whole)


def test_a_killed_run_loses_nothing_that_was_brought_to_disk(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from speechrows.generate import writer
        writer.ROWS_PER_FILE, writer.ROWS_PER_GROUP = 5, 2
        recipe = {"kind": "sift_s", "model": "toy", "temperature": 0.8}
        opened = writer.SidecarWriter.open(Path(sys.argv[1]), recipe)
        for i in range(13):
            opened.add(f"clip/{i}", f"answer {i}", is_cut=i % 3 == 0)
        (opened.folder / ".part-00002.parquet.tmp").write_bytes(b"half of a part")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    torn, whole = tmp_path / "torn", tmp_path / "whole"
    assert start_python(code, torn).wait(60) == -signal.SIGKILL
    assert len(rows(torn)) == 10, "two full parts; the third was being filled"
    assert fill(torn, range(13)) == ["clip/10", "clip/11", "clip/12"]
    fill(whole, range(13))
    assert files(torn) == files(whole)


def test_what_is_added_is_on_disk_after_so_many_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SECONDS", 0.0)
    with SidecarWriter.open(tmp_path, ANSWERS) as writer:
        for i in range(3):
            writer.add(f"clip/{i}", "yes")
            assert len(rows(tmp_path)) == i + 1


def test_codes_and_units_keep_their_shape_and_type(tmp_path: Path) -> None:
    codes = np.arange(24, dtype=np.int16).reshape(8, 3)
    with SidecarWriter.open(tmp_path / "codes", CODES) as writer:
        writer.add("a/0", codes)
        writer.add("a/1", None, reason="truncated: half a file")
    with SidecarWriter.open(tmp_path / "units", UNITS) as writer:
        writer.add("a/0", np.array([7, 7, 9], np.int32))
    schema = pq.read_schema(tmp_path / "codes" / "part-00000.parquet")
    assert schema.field("codes").type == pa.list_(pa.list_(pa.int16()))
    assert rows(tmp_path / "codes") == [
        {"clip_id": "a/0", "codes": codes.tolist(), "reason": None},
        {"clip_id": "a/1", "codes": None, "reason": "truncated: half a file"},
    ]
    assert rows(tmp_path / "units") == [{"clip_id": "a/0", "units": [7, 7, 9], "reason": None}]
    with SidecarWriter.open(tmp_path / "codes", CODES) as writer:  # the part that is not full is taken up
        writer.add("a/2", codes)
    assert [row["codes"] for row in rows(tmp_path / "codes")] == [codes.tolist(), None, codes.tolist()]


def test_a_run_without_a_clip_leaves_a_part_that_says_what_it_was(tmp_path: Path) -> None:
    assert fill(tmp_path, range(0)) == []
    assert rows(tmp_path) == []
    assert fill(tmp_path, range(2)) == ["clip/0", "clip/1"]
    assert sorted(files(tmp_path)) == ["part-00000.parquet"]


def test_a_folder_made_with_another_recipe_is_refused_and_both_are_named(tmp_path: Path) -> None:
    fill(tmp_path, range(7))
    with pytest.raises(UsageError, match=r"made with temperature 0\.8, not 0\.5") as refused:
        SidecarWriter.open(tmp_path, {**ANSWERS, "temperature": 0.5})
    assert "--overwrite" in str(refused.value)
    assert len(rows(tmp_path)) == 7
    with SidecarWriter.open(tmp_path, {**ANSWERS, "temperature": 0.5}, overwrite=True) as writer:
        writer.add("clip/0", "another answer")
    assert [row["answer"] for row in rows(tmp_path)] == ["another answer"]


def test_two_runs_do_not_write_one_folder(tmp_path: Path) -> None:
    with (
        SidecarWriter.open(tmp_path, ANSWERS),
        pytest.raises(UsageError, match="another run is writing here"),
    ):
        SidecarWriter.open(tmp_path, ANSWERS)
    SidecarWriter.open(tmp_path, ANSWERS).close()


def test_what_generate_did_not_write_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"holds thesis\.txt"):
            SidecarWriter.open(tmp_path, ANSWERS, overwrite=overwrite)
    (tmp_path / "thesis.txt").rename(tmp_path / "part-00000.parquet")
    pq.write_table(pa.table({"clip_id": ["a"], "answer": ["b"]}), tmp_path / "part-00000.parquet")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="has the columns clip_id, answer, and no recipe"):
            SidecarWriter.open(tmp_path, ANSWERS, overwrite=overwrite)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can not be made"):
        SidecarWriter.open(tmp_path / "file", ANSWERS)


@pytest.mark.parametrize("spoil", ["truncate", "lose"])
def test_a_broken_part_is_refused_by_name_and_says_what_to_do(tmp_path: Path, spoil: str) -> None:
    fill(tmp_path, range(13))
    part = tmp_path / "part-00001.parquet"
    if spoil == "truncate":
        os.truncate(part, 100)
    else:
        part.unlink()
    with pytest.raises(UsageError, match=r"part-0000[12]\.parquet: found .* expected (a )?part"):
        SidecarWriter.open(tmp_path, ANSWERS)
    for path in tmp_path.glob("part-0000[12].parquet"):  # as the message says
        path.unlink()
    assert len(fill(tmp_path, range(13))) == 8


def test_a_full_disk_says_so_and_keeps_what_is_there(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from speechrows.errors import ShortfallError
        from speechrows.generate import writer
        writer.ROWS_PER_FILE = 5
        no_limit = resource.RLIM_INFINITY
        try:
            recipe = {"kind": "sift_s", "model": "toy", "temperature": 0.8}
            with writer.SidecarWriter.open(Path(sys.argv[1]), recipe) as opened:
                for i in range(7):
                    opened.add(f"clip/{i}", f"answer {i}", is_cut=i % 3 == 0)
                    if i == 5:
                        resource.setrlimit(resource.RLIMIT_FSIZE, (100, no_limit))
        except ShortfallError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (no_limit, no_limit))
            sys.exit(str(error))
    """
    folder = tmp_path / "answers"
    _, errors = start_python(code, folder).communicate(60)
    assert "part-00001.parquet: can not be written (File too large). Make room" in errors
    assert len(rows(folder)) == 5
    assert fill(folder, range(7)) == ["clip/5", "clip/6"]
