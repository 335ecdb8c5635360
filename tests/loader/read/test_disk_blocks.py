"""Blocks on disk: what was appended is taken in any order, and memory does not grow with the file."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.loader.read import disk_blocks
from speechrows.loader.read.disk_blocks import BLOCK
from speechrows.loader.read.disk_blocks import DiskBlocks


def numbered(first: int, count: int) -> np.ndarray:
    """Blocks whose values are all their number."""
    return np.repeat(np.arange(first, first + count, dtype=np.int32), BLOCK)


@MANY
@given(st.lists(st.integers(0, 9), min_size=1), st.data())
def test_any_ranges_of_blocks_are_taken_as_they_were_appended(sizes: list[int], data: st.DataObject) -> None:
    blocks = DiskBlocks()
    begins = [blocks.append(numbered(sum(sizes[:i]), size)) for i, size in enumerate(sizes)]
    asked = data.draw(st.lists(st.integers(0, len(sizes) - 1)))
    values = blocks.take(np.array(begins, np.int64)[asked], np.array(sizes, np.int32)[asked])
    expected = [numbered(sum(sizes[:i]), sizes[i]) for i in asked]
    assert np.array_equal(values, np.concatenate([np.empty(0, np.int32), *expected]))


def test_threads_append_and_take_while_the_map_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_blocks, "_SMALLEST", 1 << 12)
    blocks, wrong = DiskBlocks(), list[int]()

    def work(thread: int) -> None:
        for number in range(200):
            begin = blocks.append(numbered(1000 * thread + number, 3))
            values = blocks.take(np.array([begin]), np.array([3], np.int32))
            if not np.array_equal(values, numbered(1000 * thread + number, 3)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def mapped_mb() -> float:
    """What this process has mapped of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile", "RssShmem"))) / 1024


def test_of_a_large_file_little_stays_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_blocks, "_MAX_MAPPED", 4 << 20)
    blocks, num_blocks = DiskBlocks(), 1 << 12
    for part in range(256):
        blocks.append(numbered(part * num_blocks, num_blocks))
    before = mapped_mb()
    for begins in np.random.default_rng(0).permutation(256 * num_blocks).reshape(-1, 16)[:200]:
        values = blocks.take(begins, np.ones(16, np.int32)).reshape(-1, BLOCK)
        assert np.array_equal(values[:, 0], begins)
    assert mapped_mb() - before <= 16, "of 64 MB, for 64 ranges and those taken last"
