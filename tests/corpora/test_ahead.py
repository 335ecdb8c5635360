"""What is made ahead: the same things in the same order, by a thread that ends with who uses them."""

import threading
from collections.abc import Iterator

import pytest

from speechrows.corpora.ahead import ahead


def test_the_next_is_made_while_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def making() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    using = ahead(making(), 1)
    assert next(using) == 0
    assert made[1].wait(5)
    assert [*using] == [1, 2]


def test_what_makes_them_fails_after_what_it_made_and_no_thread_is_left() -> None:
    def making() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no third")

    before, using = threading.active_count(), ahead(making(), 4)
    assert [next(using), next(using)] == [1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(using)
    assert threading.active_count() == before


def test_one_that_is_left_early_leaves_no_thread() -> None:
    before, using = threading.active_count(), ahead(iter(range(100)), 4)
    assert next(using) == 0
    using.close()
    assert threading.active_count() == before
