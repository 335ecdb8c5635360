"""Buffers of samples that are used again: memory that was mapped once is not mapped for every batch."""

import threading
from collections.abc import Callable
from typing import Any
from typing import Generic
from typing import TypeVar

import numpy.typing as npt

A = TypeVar("A", bound=npt.NDArray[Any])
_UNUSED = 8  # at most, once all that was lent is back


class Buffers(Generic[A]):
    """A pool of arrays, one-dimensional, which `allocate(num_samples)` makes; for several threads."""

    def __init__(self, allocate: Callable[[int], A]) -> None:
        self._allocate = allocate
        self._free: list[A] = []
        # Apart, and without the lock: what is given back while memory is collected may find it taken.
        self._returned: list[A] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._allocate,)

    def take(self, num_samples: int) -> A:
        """A buffer of `num_samples` or more; where all are too small, a new one replaces the smallest."""
        with self._lock:
            while self._returned:
                self._free.append(self._returned.pop())
            self._free.sort(key=len)
            del self._free[:-_UNUSED]
            for place, buffer in enumerate(self._free):
                if len(buffer) >= num_samples:
                    return self._free.pop(place)
            del self._free[:1]
        return self._allocate(num_samples + num_samples // 8)

    def lend(self, buffer: A) -> Callable[[], None]:
        """Return a function that gives the buffer back; calling it again does nothing."""
        lent = [buffer]

        def release() -> None:
            while lent:
                self._returned.append(lent.pop())

        return release
