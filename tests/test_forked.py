"""Processes of tests end with their tests."""

import os
import signal
import time
from pathlib import Path

from toys.processes import Forked


def test_a_process_that_a_test_leaves_stopped_is_ended_even_before_it_has_begun() -> None:
    process = Forked(time.sleep, 60)
    place = Path(f"/proc/{process.pid}")
    os.kill(process.pid, signal.SIGSTOP)  # most likely while it still reads what it is to call
    del process
    deadline = time.monotonic() + 10
    while place.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not place.exists(), "the end of the tests would wait for it"
