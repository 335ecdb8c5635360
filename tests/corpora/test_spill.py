"""Clips wait for the rest of their conversation in memory, then on disk, and come back as they were."""

import resource
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.corpora.cells import clip_cells
from speechrows.corpora.spill import SpillBuffer
from speechrows.corpora.spill import ViewBuffer
from speechrows.errors import UsageError

_STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "take", "drop"]), st.integers(0, 5), st.binary(max_size=40))
)


@given(steps=_STEPS, limit=st.sampled_from([0, 30, 1 << 20]))
@MANY
def test_what_waits_comes_back_whether_in_memory_or_on_disk(
    steps: list[tuple[str, int, bytes]], limit: int
) -> None:
    buffer, expected = SpillBuffer(limit), dict[str, bytes]()
    for step, number, data in steps:
        key = f"clip {number}"
        if step == "put":
            buffer.put(key, data)
            expected[key] = data
        elif step == "take" and key in expected:
            assert buffer.take(key) == expected.pop(key)
        elif step == "drop":
            buffer.drop(key)
            expected.pop(key, None)
        assert len(buffer) == len(expected)
        assert all((f"clip {i}" in buffer) == (f"clip {i}" in expected) for i in range(6))
    for key, data in expected.items():
        assert buffer.take(key) == data


def test_clips_beyond_the_limit_wait_in_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    buffer = SpillBuffer(limit=100)
    for i in range(50):
        buffer.put(str(i), bytes([i]) * 60)
    assert list(tmp_path.iterdir()) == []
    spool = next(
        path for path in Path("/proc/self/fd").iterdir() if str(path.readlink()).startswith(f"{tmp_path}/")
    )
    assert spool.stat().st_size == 48 * 64 + 60  # the first is in memory
    for i in range(50, 500):  # one comes, one goes: the space is used again
        assert buffer.take(str(i - 50)) == bytes([(i - 50) % 256]) * 60
        buffer.put(str(i), bytes([i % 256]) * 60)
    assert spool.stat().st_size <= 50 * 64
    for i in range(450, 500):
        buffer.drop(str(i))
    assert spool.stat().st_size == 0
    with pytest.raises(KeyError):
        buffer.take("499")


def test_a_temporary_folder_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    buffer, limits = SpillBuffer(limit=0), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(UsageError, match=f"{tmp_path}: found File too large while .* let TMPDIR name"):
            buffer.put("a", bytes(6000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_temporary_folder_that_is_nowhere_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(UsageError, match=r"TMPDIR: found No usable temporary directory .* let TMPDIR name"):
        SpillBuffer(limit=0).put("a", b"0")


@given(
    batches=st.lists(st.lists(st.binary(max_size=40), min_size=1)), limit=st.sampled_from([0, 100, 1 << 20])
)
@MANY
def test_views_of_batches_come_back_whether_in_memory_or_on_disk(
    batches: list[list[bytes]], limit: int
) -> None:
    buffer, expected = ViewBuffer(limit), dict[str, bytes]()
    for i, clips in enumerate(batches):
        for j, cell in enumerate(clip_cells(pa.array(clips, pa.binary()))):
            assert cell.data is not None
            buffer.put(f"{i}/{j}", cell.data)
            expected[f"{i}/{j}"] = clips[j]
        if i % 2:  # some leave before others come
            assert bytes(buffer.take(f"{i}/0")) == expected.pop(f"{i}/0")
    for key, clip in expected.items():
        assert bytes(buffer.take(key)) == clip
    with pytest.raises(KeyError):
        buffer.take("0/0")


def test_views_hold_no_more_memory_than_the_limit_and_are_no_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before, buffer = pa.total_allocated_bytes(), ViewBuffer(limit=3 << 20)
    for i in range(20):  # of each batch one small clip waits
        batch = pa.array([bytes([i]) * 1000, bytes(1 << 20)], pa.binary())
        cell = clip_cells(batch)[0]
        assert cell.data is not None
        buffer.put(str(i), cell.data)
        del batch, cell
    assert pa.total_allocated_bytes() - before < 4 << 20
    newest = buffer.take("19")
    assert isinstance(newest, memoryview)
    assert isinstance(newest.obj, pa.Buffer)
    assert [bytes(buffer.take(str(i)))[:1] for i in range(19)] == [bytes([i]) for i in range(19)]
    del newest
    assert pa.total_allocated_bytes() - before < 1 << 20
