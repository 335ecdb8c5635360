"""Blocks of remote files on disk: bounded, shared, and nothing of a killed process stays."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from speechrows.errors import UsageError
from speechrows.storage import block_cache
from speechrows.storage.block_cache import BlockCache

BLOCK = 1000
LENGTH = 25_300
CONTENT = random.Random(3).randbytes(LENGTH)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_cache, "BLOCK_BYTES", BLOCK)


class Far:
    """A file that is far away, and what was read of it."""

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.fetched = Counter[int]()
        self._seconds = seconds

    def __call__(self, start: int, stop: int) -> bytes:
        self.fetched[start] += 1
        time.sleep(self._seconds)
        return CONTENT[start:stop]


def _read(cache: BlockCache, start: int, stop: int, far: Any, name: str = "digest") -> bytes:
    return cache.read(name, LENGTH, start, stop, far)


def _size(folder: Path) -> int:
    """The bytes of all that is there, while nobody writes or deletes."""
    with block_cache._locked(folder / "lock"):
        return sum(path.stat().st_size for path in folder.iterdir() if path.name != "lock")


@settings(max_examples=40, deadline=None)
@given(spans=st.lists(st.tuples(st.integers(0, LENGTH - 1), st.integers(1, 4000)), max_size=20))
def test_any_bytes_are_those_of_the_file_and_the_folder_never_exceeds_its_bound(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]]
) -> None:
    cache = BlockCache.open(tmp_path_factory.mktemp("blocks"), 6 * BLOCK)
    for start, length in spans:
        stop = min(start + length, LENGTH)
        assert _read(cache, start, stop, Far()) == CONTENT[start:stop]
        assert _size(cache.folder) <= 6 * BLOCK


def test_a_block_is_fetched_once_and_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache, far = BlockCache.open(tmp_path, 5 * BLOCK), Far()
    for number in (0, 1, 2, 3, 0, 1, 4, 0, 1):
        _read(cache, number * BLOCK, (number + 1) * BLOCK, far)
        time.sleep(0.002)
    assert far.fetched[0] == far.fetched[BLOCK] == 1
    _read(cache, 2 * BLOCK, 3 * BLOCK, far)
    assert far.fetched[2 * BLOCK] == 2


def test_a_block_that_many_need_at_once_is_fetched_by_one(tmp_path: Path) -> None:
    cache, far = BlockCache.open(tmp_path, 100 * BLOCK), Far(seconds=0.02)
    with ThreadPoolExecutor(8) as pool:
        reads = [pool.submit(_read, cache, 100, 3 * BLOCK, far) for _ in range(16)]
    assert {read.result() for read in reads} == {CONTENT[100 : 3 * BLOCK]}
    assert set(far.fetched.values()) == {1}


def _read_all(folder: Path, fetched: Any, order: int) -> None:
    block_cache.BLOCK_BYTES = BLOCK
    cache = BlockCache.open(folder, 12 * BLOCK)

    def fetch(start: int, stop: int) -> bytes:
        with fetched.get_lock():
            fetched.value += 1
        return CONTENT[start:stop]

    for number in random.Random(order).choices(range(20), k=60):
        start, stop = number * BLOCK + 7, number * BLOCK + 990
        assert _read(cache, start, stop, fetch) == CONTENT[start:stop]
        assert _size(folder) <= 12 * BLOCK


def test_processes_share_it(tmp_path: Path) -> None:
    context = get_context("fork")
    fetched = context.Value("q", 0)
    processes = [context.Process(target=_read_all, args=(tmp_path, fetched, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert _size(tmp_path) <= 12 * BLOCK
    assert fetched.value < 150  # of 180 reads


def test_a_process_that_was_forked_while_a_block_was_fetched_holds_up_no_other(tmp_path: Path) -> None:
    cache, forked = BlockCache.open(tmp_path, 9 * BLOCK), list[Any]()

    def fetch(start: int, stop: int) -> bytes:
        forked.append(get_context("fork").Process(target=time.sleep, args=(60,)))
        forked[0].start()
        return CONTENT[start:stop]

    _read(cache, 0, BLOCK, fetch)
    with ThreadPoolExecutor(1) as pool:
        (tmp_path / "digest-000000000000").rename(tmp_path / "digest-000000000000.tmp")  # what it has open
        reading = pool.submit(_read, cache, 0, BLOCK, Far())
        try:
            assert reading.result(timeout=5) == CONTENT[:BLOCK]
        finally:
            forked[0].kill()
            forked[0].join()


def test_what_a_killed_process_left_is_collected_and_what_another_writes_is_not(tmp_path: Path) -> None:
    cache = BlockCache.open(tmp_path, 4 * BLOCK)
    (tmp_path / "killed-000000000000.tmp").write_bytes(b"half a block")
    (tmp_path / "digest-000000000000.tmp").write_bytes(b"half of the block that is read next")
    held, go = threading.Event(), threading.Event()

    def slow(start: int, stop: int) -> bytes:
        held.set()
        go.wait(10)
        return CONTENT[start:stop]

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_read, cache, 9 * BLOCK, 10 * BLOCK, slow)
        assert held.wait(10)
        for number in range(6):
            _read(cache, number * BLOCK, (number + 1) * BLOCK, Far())
        assert [path.name for path in tmp_path.glob("*.tmp")] == ["digest-000000002328.tmp"]
        go.set()
        assert reading.result() == CONTENT[9 * BLOCK : 10 * BLOCK]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_block_that_rotted_is_fetched_again(tmp_path: Path) -> None:
    _read(BlockCache.open(tmp_path, 9 * BLOCK), 0, BLOCK, Far())
    (path,) = tmp_path.glob("digest-*")
    for spoilt in (b"", path.read_bytes()[:-1], b"\0" * (BLOCK + 4)):
        path.write_bytes(spoilt)
        assert _read(BlockCache.open(tmp_path, 9 * BLOCK), 0, BLOCK, Far()) == CONTENT[:BLOCK]


def test_a_full_disk_keeps_nothing_and_fails_nothing() -> None:
    full = Path("/dev/full")  # every write finds no room; a folder of it takes no file at all
    assert _read(BlockCache(full, 9 * BLOCK), 10, 2500, Far()) == CONTENT[10:2500]


def test_a_block_that_can_not_be_written_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/dev/full")
    cache = BlockCache.open(tmp_path, 9 * BLOCK)
    assert _read(cache, 10, 2500, Far()) == CONTENT[10:2500]
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_an_error_of_the_store_is_raised_as_it_is_and_the_block_is_fetched_by_who_comes_next(
    tmp_path: Path,
) -> None:
    cache = BlockCache.open(tmp_path, 9 * BLOCK)

    def fail(start: int, stop: int) -> bytes:
        raise OSError(5, "the store", "far/away")

    with pytest.raises(OSError, match="the store"):
        _read(cache, 0, 10, fail)
    assert _read(cache, 0, 10, Far()) == CONTENT[:10]


def test_a_cache_that_holds_no_two_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found 1500 bytes, expected at least 2,000"):
        BlockCache.open(tmp_path, 1500)
