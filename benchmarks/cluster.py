"""What the driver of a Ray cluster costs: shards planned and handed out, whose work is simulated.

A line each fifth: shards, seconds, CPU seconds of the driver, MiB that it holds. 0.1.0 on a cluster of this
machine: docs/scale.md.
"""

import argparse
import time
from functools import partial
from pathlib import Path

from cluster_work import open_simulated

from speechrows.builds.sharding import plan_shards
from speechrows.corpora.reader import Shard
from speechrows.corpora.reader import Unit
from speechrows.workers.ray.engine import RayEngine
from speechrows.workers.ray.engine import connected
from speechrows.workers.work import Work


def held_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=0.0, help="that a shard lasts")
    parser.add_argument("--workers", type=int, default=64, help="jobs on their way at a time")
    parser.add_argument("--ray-address")
    options = parser.parse_args()
    with connected(options.ray_address):
        print(f"connected: {held_mib()} MiB", flush=True)
        began, cpu = time.monotonic(), time.process_time()
        units = [
            Unit(payload=None, files=(f"data/train/{n:06d}.tar",), num_bytes=1 << 30)
            for n in range(options.shards)
        ]
        shards = plan_shards(units, 1 << 30)
        print(f"{len(shards)} planned: {time.monotonic() - began:.1f} s, {held_mib()} MiB", flush=True)
        work = Work[Shard, int](open=partial(open_simulated, options.seconds), died="a process died")
        engine = RayEngine(num_proc=options.workers)
        began, cpu = time.monotonic(), time.process_time()
        for number, _ in enumerate(engine.run(work, shards, ordered=False), 1):
            if number % max(1, options.shards // 5) == 0:
                seconds, busy = time.monotonic() - began, time.process_time() - cpu
                print(f"{number} done: {seconds:.1f} s, {busy:.1f} s of CPU, {held_mib()} MiB", flush=True)


if __name__ == "__main__":
    main()
