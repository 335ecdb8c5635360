"""Many reads of files by one call of the system, during which other threads of Python go on."""

import ctypes
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

_AT_ONCE = 128  # reads
_PREADV = 7  # IOCB_CMD_PREADV
_IF_CACHED = getattr(os, "RWF_NOWAIT", 0)
# struct iocb and struct io_event of linux/aio_abi.h
_CALL = np.dtype(
    [
        ("data", "u8"), ("key", "u4"), ("flags", "u4"), ("opcode", "u2"), ("priority", "i2"), ("fd", "u4"),
        ("vectors", "u8"), ("num_vectors", "u8"), ("offset", "i8"), ("unused", "u8", 2),
    ]
)  # fmt: skip
_EVENT = np.dtype([("data", "u8"), ("call", "u8"), ("result", "i8"), ("result2", "i8")])
# Of io_setup, io_submit and io_getevents, for which the C library has no functions
_NUMBERS = {"x86_64": (206, 209, 208), "aarch64": (0, 2, 4)}
_SETUP, _SUBMIT, _GET_EVENTS = _NUMBERS.get(platform.machine(), (-1, -1, -1))  # -1 is refused

_unused: list[int] = []  # contexts of the system: each is for one thread at a time
os.register_at_fork(after_in_child=_unused.clear)  # they are the parent's


def read_many(
    fds: Sequence[int], offsets: Int64, memories: Sequence[npt.NDArray[Any]], begins: Int64, sizes: Int64
) -> Int64:
    """Read N times from `offsets` [N] of files; return the bytes of each read [N].

    A read fills `sizes` [P, N] bytes from `begins` [P, N] on of each of P memories, one after another. First
    those in the page cache, by one call. All others are announced at once, so that a cold disk has a full
    queue, and read by another; to announce what is in memory would cost about a tenth of reading it. Where
    the system refuses such calls, each is read by a call of its own.

    Raises:
        IndexError: a place is not in its memory.
        OSError: a file can not be read.
    """
    limits = np.array([[memory.nbytes] for memory in memories])
    if ((begins < 0) | (sizes < 0) | (begins > limits - sizes)).any():  # a sum of the two may overflow
        raise IndexError(f"found places that are not in memories of {limits.ravel().tolist()} bytes")
    wanted = sizes.sum(axis=0)
    num_read = _read_at_once(fds, offsets, memories, begins, sizes, _IF_CACHED)
    if len(cold := np.flatnonzero(num_read < wanted)):
        if hasattr(os, "posix_fadvise"):
            for i in cold.tolist():
                os.posix_fadvise(fds[i], int(offsets[i]), int(wanted[i]), os.POSIX_FADV_WILLNEED)
        of_cold = [fds[i] for i in cold.tolist()]
        num_read[cold] = _read_at_once(of_cold, offsets[cold], memories, begins[:, cold], sizes[:, cold])
    for i in np.flatnonzero(num_read < wanted).tolist():
        places = zip(memories, begins[:, i].tolist(), sizes[:, i].tolist(), strict=True)
        into = [memory.data.cast("B")[begin : begin + size] for memory, begin, size in places]
        num_read[i] = os.preadv(fds[i], into, int(offsets[i]))
    return num_read


def _read_at_once(
    fds: Sequence[int],
    offsets: Int64,
    memories: Sequence[npt.NDArray[Any]],
    begins: Int64,
    sizes: Int64,
    flags: int = 0,
) -> Int64:
    """Read as `read_many` does, by one call; return the bytes of each read, 0 where it was refused.

    `flags` are those of `os.preadv`.
    """
    num_read = np.zeros(len(fds), np.int64)
    context = _unused.pop() if _unused else _new_context()
    if not context:
        return num_read
    places = np.arange(len(fds))
    vectors = np.empty((len(fds), len(memories), 2), np.int64)
    vectors[:, :, 0] = np.transpose(begins) + [memory.ctypes.data for memory in memories]
    vectors[:, :, 1] = np.transpose(sizes)
    calls = np.zeros(len(fds), _CALL)
    calls["data"] = places
    calls["flags"], calls["opcode"] = flags, _PREADV
    calls["fd"], calls["offset"] = fds, offsets
    calls["vectors"] = vectors.ctypes.data + vectors.strides[0] * places
    calls["num_vectors"] = len(memories)
    addresses = calls.ctypes.data + calls.itemsize * places
    for first in range(0, len(fds), _AT_ONCE):
        some = addresses[first : first + _AT_ONCE]
        submitted = _system(_SUBMIT, context, len(some), some.ctypes.data)
        events = np.zeros(max(submitted, 0), _EVENT)
        num_done = 0
        while num_done < len(events):  # a signal ends a wait
            rest = events[num_done:]
            num_done += max(0, _system(_GET_EVENTS, context, len(rest), len(rest), rest.ctypes.data))
        num_read[events["data"].astype(np.int64)] = np.maximum(events["result"], 0)
    _unused.append(context)
    return num_read


def _new_context() -> int:
    """A context for so many reads at once; 0 where the system has none."""
    context = ctypes.c_long(0)
    _system(_SETUP, _AT_ONCE, ctypes.addressof(context))
    return context.value


def _system(number: int, *arguments: int) -> int:
    """Call the system by number, without Python's lock; below 0 where it refuses."""
    return _syscall(number, *arguments, *[0] * (5 - len(arguments)))


if sys.platform == "linux":
    _syscall = ctypes.CDLL(None).syscall
    _syscall.argtypes, _syscall.restype = [ctypes.c_long] * 6, ctypes.c_long
else:

    def _syscall(*_: int) -> int:
        return -1
