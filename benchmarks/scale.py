"""What building, checking and loading cost as rows grow, each reading in a process of its own.

Folders up to --built rows are built of bundled speech. Larger ones are the largest of these again and again:
its shards under other names (hard links), and for each its lines of the index, which is real. A plan of
--windows rows is that of the largest index, again and again: each window is read, planned and forgotten.

    python benchmarks/scale.py [--built 100000] [--most 10000000] [--windows 0] [--json FILE] [--picture FILE]
"""

import argparse
import json
import math
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent)]

from learn.picture import Chart
from loader_corpus import TURNS
from loader_corpus import write_corpus
from machine import announce
from machine import run

LEAST = 1000
SECONDS, CLIPS = 0.5, 300  # of a clip, and how many there are: files of a corpus are links to them
SHARD_BYTES = 64 << 20
BUILDER, TASK = "deepdialogue_ttt", "ttt"


def built(corpus: str, folder: str) -> None:
    from speechrows.builder.builder import load_builder
    from speechrows.builds.run import build

    builder = load_builder(BUILDER)(config_name=TASK, data_dir=corpus)
    builder.config.shard_bytes = SHARD_BYTES
    (job,) = builder.jobs()
    build(job, Path(folder))


def validated(folder: str) -> None:
    import speechrows

    assert speechrows.validate(folder).ok


def summed(folder: str) -> None:
    import speechrows

    speechrows.stats(folder)


def indexed(folder: str) -> Any:
    from speechrows.folder.index import Index

    return Index.open(folder, TASK, "train")


def planned(folder: str, times: str = "1") -> None:
    """Read the index, plan an epoch of it in buckets, and forget both; so often."""
    from speechrows.loader.plan.epoch import plan_epoch
    from speechrows.loader.plan.values import PlanOptions
    from speechrows.loader.plan_rows import plan_rows

    for number in range(int(times)):
        options = PlanOptions(mode="bucket", budget_seconds=400.0, micro_batches=24, seed=number)
        assert len(plan_epoch(plan_rows(indexed(folder)), options))


def first_batch(folder: str) -> None:
    import speechrows

    assert next(iter(speechrows.load(folder, TASK, budget_seconds=60.0))).row_ids


STAGES: dict[str, Callable[..., Any]] = {
    "build": built,
    "validate": validated,
    "stats": summed,
    "index": indexed,
    "plan": planned,
    "first batch": first_batch,
}


def measure(stage: str, arguments: list[str]) -> None:
    """Print the seconds, the CPU seconds and the peak memory of a stage, with its imports, as JSON."""
    began = time.perf_counter()
    STAGES[stage](*arguments)
    own = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu_s": own.ru_utime + own.ru_stime,
        "peak_mb": own.ru_maxrss / 1000,
    }
    print(json.dumps(figures))


def repeated(folder: Path, out: Path, times: int) -> None:
    """A folder that holds the rows of another so many times, under other names of shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from speechrows.folder.manifest import TaskFacts

    shutil.copytree(folder, out, ignore=shutil.ignore_patterns(".build", "data", "screen"))
    card = (out / "README.md").read_text("utf-8")
    card = re.sub(r"(num_examples: )(\d+)", lambda match: f"{match[1]}{times * int(match[2])}", card)
    (out / "README.md").write_text(card, "utf-8")
    for path in (folder / "index" / TASK).glob("*.parquet"):
        index = out / "index" / TASK / path.name
        lines = pq.read_table(path)
        facts = TaskFacts.from_metadata(lines.schema.metadata, str(path))
        paths = [shard.path for shard in facts.shards]
        names = {
            path: [_named(path, number * len(paths) + place) for number in range(times)]
            for place, path in enumerate(paths)
        }
        for shard, links in names.items():
            (out / shard).parent.mkdir(parents=True, exist_ok=True)
            for link in links:
                os.link(folder / shard, out / link)
        shards = [replace(shard, path=link) for shard in facts.shards for link in names[shard.path]]
        metadata = replace(facts, shards=tuple(sorted(shards, key=lambda shard: shard.path))).to_metadata()
        column = lines.schema.get_field_index("shard")
        dictionary = lines["shard"].combine_chunks()
        with pq.ParquetWriter(index, lines.schema.with_metadata(metadata), compression="zstd") as writer:
            for number in range(times):
                values = pa.array([names[name][number] for name in dictionary.dictionary.to_pylist()])
                renamed = pa.DictionaryArray.from_arrays(dictionary.indices, values)
                writer.write_table(lines.set_column(column, "shard", renamed), row_group_size=1 << 17)


def _named(path: str, number: int) -> str:
    """The path of a shard's copy: copies of all shards follow one another, as their lines do."""
    return f"{path.removesuffix('.parquet').rpartition('-')[0]}-{number:08d}.parquet"


def reading(stage: str, *arguments: str) -> dict[str, float]:
    figures = run([sys.executable, str(HERE / "scale.py"), "--measure", stage, *arguments])
    seconds, cpu, peak = (figures[name] for name in ("seconds", "cpu_s", "peak_mb"))
    print(f"  {stage:12} {seconds:8.2f} s {cpu:8.2f} s of CPU {peak:6.0f} MB", flush=True)
    return figures


def sizes(least: int, most: int) -> list[int]:
    """Powers of ten."""
    return [10**power for power in range(round(math.log10(least)), round(math.log10(most)) + 1)]


def chart(figures: dict[str, dict[str, dict[str, float]]]) -> Chart:
    places = [int(size) for size in figures]
    lines = {
        stage: [math.log10(figures[str(size)][stage]["cpu_s"]) if stage in figures[str(size)] else None
                for size in places]
        for stage in STAGES
    }  # fmt: skip
    values = [value for line in lines.values() for value in line if value is not None]
    return Chart(
        title="CPU seconds by rows, each stage in a process of its own",
        across="rows",
        places=places,
        lines=lines,
        least=math.floor(min(values)),
        most=math.ceil(max(values)),
        by_tens=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--built", type=int, default=100_000, help="rows of the largest folder that is built")
    parser.add_argument("--most", type=int, default=10_000_000, help="rows of the largest folder")
    parser.add_argument("--windows", type=int, default=0, help="rows that are planned a window at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go, too")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where their picture goes")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        stage, *arguments = options.measure
        measure(stage, arguments)
        return
    announce(400 * options.built / 100_000 + options.most / 50_000 + options.windows / 2_000_000)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "none")
        for rows in sizes(LEAST, options.most):
            print(f"{rows:,} rows", flush=True)
            folder, before, measured = Path(work, f"rows-{rows}"), folder, dict[str, dict[str, float]]()
            if rows <= options.built:
                corpus = Path(work, f"corpus-{rows}")
                write_corpus(corpus, rows // TURNS, "WAV", SECONDS, CLIPS)
                measured["build"] = reading("build", str(corpus), str(folder))
                shutil.rmtree(corpus)
                measured["validate"] = reading("validate", str(folder))
            else:
                repeated(before, folder, 10)
            measured |= {stage: reading(stage, str(folder)) for stage in list(STAGES)[2:]}
            figures[str(rows)] = measured
        if options.windows:
            times = options.windows // options.most
            print(f"{options.windows:,} rows, {options.most:,} at a time", flush=True)
            figures[str(options.most)]["windows"] = reading("plan", str(folder), str(times))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    if options.picture:
        chart(figures).save(options.picture)


if __name__ == "__main__":
    main()
