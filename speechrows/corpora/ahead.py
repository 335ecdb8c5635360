"""What is made one after another, made ahead by a thread."""

from collections import deque
from collections.abc import Generator
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import TypeVar

Made = TypeVar("Made")
_END: Any = object()


def ahead(making: Iterator[Made], count: int) -> Generator[Made]:
    """The same, in order: a thread, which ends with this generator, makes up to `count` ahead of use."""
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(next, making, _END) for _ in range(count))
        try:
            while (made := coming.popleft().result()) is not _END:
                coming.append(pool.submit(next, making, _END))
                yield made
        finally:
            pool.shutdown(cancel_futures=True)
