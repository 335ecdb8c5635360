"""Many reads by one call: bytes lie where they are asked for, whether in memory, on the disk, or nowhere."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.loader.read import many_reads
from speechrows.loader.read.many_reads import read_many

PREADV = os.preadv
CONTENTS = [np.random.default_rng(size).bytes(size) for size in (1000, 70_000)]


@pytest.fixture(scope="module")
def fds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    folder = tmp_path_factory.mktemp("files")
    files = []
    for data in CONTENTS:
        path = folder / str(len(data))
        path.write_bytes(data)
        files.append(path.open("rb"))
    yield [file.fileno() for file in files]
    for file in files:
        file.close()


def pieces(fds: list[int], reads: list[tuple[int, int, int, int]]) -> list[bytes]:
    """What is read by reads of a file's number, from an offset, so many bytes and so many more."""
    files, offsets, *sizes = np.array(reads, np.int64).reshape(-1, 4).T
    ends = np.cumsum(sizes, axis=1)
    memories = [np.zeros(int(each.sum()) + 1, np.uint8) for each in sizes]
    num_read = read_many([fds[file] for file in files], offsets, memories, ends - sizes, np.array(sizes))
    assert not any(memory[-1] for memory in memories), "nothing is written after the places"
    begins, ends, num_read = (each.tolist() for each in ((ends - sizes).T, ends.T, num_read))
    return [
        b"".join(memory[start:end].tobytes() for memory, start, end in zip(memories, *places, strict=True))[
            :size
        ]
        for *places, size in zip(begins, ends, num_read, strict=True)
    ]


one_read = st.tuples(st.integers(0, 1), st.integers(0, 71_000), st.integers(0, 300), st.integers(0, 9000))


@MANY
@given(st.lists(one_read, max_size=300))
def test_every_range_is_read_whole_up_to_the_end_of_its_file(
    fds: list[int], reads: list[tuple[int, int, int, int]]
) -> None:
    expected = [CONTENTS[file][offset : offset + first + more] for file, offset, first, more in reads]
    assert pieces(fds, reads) == expected


def spread(count: int) -> list[tuple[int, int, int, int]]:
    """Reads all over the larger file."""
    return [(1, 211 * i % 60_000, 44, 7 * i) for i in range(count)]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the calls of the system; another way to read there is none."""
    if not (context := many_reads._new_context()):
        pytest.skip("this system has no such call, or refuses it")
    many_reads._unused.append(context)
    calls, system = list[int](), many_reads._system

    def counted(number: int, *arguments: int) -> int:
        calls.append(number)
        return system(number, *arguments)

    monkeypatch.setattr(many_reads, "_system", counted)
    monkeypatch.setattr(os, "preadv", None)
    return calls


def test_what_is_in_memory_takes_one_call_for_many_ranges(fds: list[int], calls: list[int]) -> None:
    expected = pieces(fds, spread(100))
    try:
        PREADV(fds[1], [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError:
        pytest.skip("this file system does not say what is in memory: tmpfs and overlayfs do not")
    calls.clear()
    assert pieces(fds, spread(100)) == expected
    assert calls == [many_reads._SUBMIT, many_reads._GET_EVENTS]


def test_where_the_file_system_does_not_say_what_is_in_memory_it_takes_two(
    fds: list[int], calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pieces(fds, spread(100))
    calls.clear()
    monkeypatch.setattr(many_reads, "_IF_CACHED", 1 << 30)  # refused, as there
    assert pieces(fds, spread(100)) == expected
    assert calls == [many_reads._SUBMIT, many_reads._SUBMIT, many_reads._GET_EVENTS]


@pytest.mark.parametrize("refused", ["_SETUP", "_SUBMIT"])
def test_where_the_system_refuses_the_call_the_bytes_are_the_same(
    fds: list[int], refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pieces(fds, spread(200))
    monkeypatch.setattr(many_reads, "_unused", [])
    monkeypatch.setattr(many_reads, refused, -1)
    assert pieces(fds, spread(200)) == expected


def test_threads_and_a_fork_read_at_once(fds: list[int]) -> None:
    expected = pieces(fds, spread(200))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: pieces(fds, spread(200)), range(40))) == [expected] * 40
    with closing(get_context("fork").Process(target=_read_all, args=(fds, expected))) as process:
        process.start()
        process.join(20)
        assert process.exitcode == 0


def _read_all(fds: list[int], expected: list[bytes]) -> None:
    assert pieces(fds, spread(200)) == expected


def test_places_that_are_not_in_the_memory_are_refused(fds: list[int]) -> None:
    memory = np.zeros(8, np.int16)
    for begin, end in ((0, 17), (-1, 4), (4, 3), (2, 1 << 63), (1 << 62, 1 << 63)):
        with pytest.raises(IndexError, match=r"not in memories of \[16\] bytes"):
            read_many(fds[:1], np.array([0]), [memory], np.array([[begin]]), np.array([[end - begin]]))
    assert not memory.any()
