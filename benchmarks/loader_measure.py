"""What is measured of a loader, ours or a peer's: run in a process of its own, printed as JSON."""

import argparse
import json
import os
import pickle
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import Protocol

RATE = 16_000
Seen = tuple[list[str], list[int]]  # names of a batch's rows, and the samples of each


class Reader(Protocol):
    """An epoch of batches, and for what can go on, its state."""

    def __iter__(self) -> Iterator[Seen]: ...
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any) -> None: ...


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=1, help="epochs, each of a reader opened anew")
    parser.add_argument("--stop", type=int, help="after so many rows, with the state in STATE, if given")
    parser.add_argument("--go-on", action="store_true", help="from STATE")
    parser.add_argument("--state", type=Path)


def memory_mb(name: str) -> float:
    """`VmRSS`, or `VmHWM`, its peak, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def tell(open_reader: Callable[[], Reader], options: argparse.Namespace) -> None:
    """Read, print what was seen, and end the process, whatever threads a library has left."""
    imported = memory_mb("VmRSS")
    epochs = [_epoch(open_reader, options) for _ in range(options.repeats)]
    report = {
        **{name: sum(epoch[name] for epoch in epochs) for name in ("seconds", "cpu", "audio")},
        "first": epochs[0]["first"],
        "padding": epochs[0]["padding"],
        "names": epochs[0]["names"],
        "memory": memory_mb("VmHWM") - imported,
    }
    print(json.dumps(report), flush=True)
    os._exit(0)


def _epoch(open_reader: Callable[[], Reader], options: argparse.Namespace) -> dict[str, Any]:
    arrived: list[float] = []
    batches: list[list[str]] = []
    rows, samples, padded = 0, 0, 0
    start, cpu, cpu_start = time.perf_counter(), 0.0, time.process_time()
    reader = open_reader()
    if options.go_on:
        reader.load_state_dict(pickle.loads(options.state.read_bytes()))
    for names, lengths in reader:
        arrived.append(time.perf_counter() - start)  # what ends after the last batch is not held against it
        cpu = time.process_time() - cpu_start
        rows, samples = rows + len(names), samples + sum(lengths)
        padded += max(lengths) * len(lengths)
        batches.append(names)
        if options.stop and rows >= options.stop:
            if options.state:
                options.state.write_bytes(pickle.dumps(reader.state_dict()))
            break
    report = {"cpu": cpu, "audio": samples / RATE, "names": batches}
    if not arrived:  # a peer that resumes may find nothing left
        return {**report, "seconds": 0.0, "first": 0.0, "padding": 1.0}
    return {**report, "seconds": arrived[-1], "first": arrived[0], "padding": padded / samples}
