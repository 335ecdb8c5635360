"""What is made one after another, made ahead by a thread."""

from collections import deque
from collections.abc import Generator
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import TypeVar

Item = TypeVar("Item")
_END: Any = object()


def ahead(items: Iterator[Item], count: int) -> Generator[Item]:
    """The same items, in order: a thread, which ends with this generator, makes up to `count` ahead."""
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(next, items, _END) for _ in range(count))
        try:
            while (item := coming.popleft().result()) is not _END:
                coming.append(pool.submit(next, items, _END))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
