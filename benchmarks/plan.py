"""Planning an epoch: time, memory, padding; each mode in a process of its own.

Turns like DeepDialogue's: lognormal, 7.7 s on average, 12.5 tokens a second and about 25 tokens of
text, 3 to 10 turns a conversation. Inputs of the plan (120 MB of 10 million rows) count in its peak.

    python benchmarks/plan.py [--rows 10000000] [--context 8192] [--rounds 3]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from machine import announce

CASES = {
    "bucket, 400 s": {"budget_seconds": 400.0},
    "bucket, 8192 tokens": {"budget_tokens": 8192},
    "pack, conversations closed": {"mode": "pack"},
    "pack, turns closed": {"mode": "pack", "close_on": "turn"},
    "pack, rows alone, no 64": {"mode": "pack", "pad_to_multiple_of": 1, "alone": True},
    "lanes, 24 x 4, conversations closed": {"mode": "lanes", "batch_size": 4},
    "lanes, 24 x 4, turns closed": {"mode": "lanes", "batch_size": 4, "close_on": "turn"},
    "lanes, one lane": {"mode": "lanes", "micro_batches": 1},
    "bucket, 400 s, windows of 512 MiB": {"budget_seconds": 400.0, "window_bytes": 512 << 20},
    "pack, windows of 512 MiB": {"mode": "pack", "window_bytes": 512 << 20},
    "index of as many rows, read": {},
    "the same, then bucket, 400 s": {"budget_seconds": 400.0, "indexed": True},
    "the same, then pack": {"mode": "pack", "indexed": True},
    "the same, then lanes, 24 x 4": {"mode": "lanes", "batch_size": 4, "indexed": True},
}
GROUP_BYTES = 40 << 20  # of audio, at 24 kHz


def lengths(num_rows: int):
    from speechrows.loader.plan.values import PlanRows

    rng = np.random.default_rng(0)
    seconds = rng.normal(np.log(7.7) - 0.125, 0.5, num_rows).astype(np.float32)
    np.exp(seconds, out=seconds)
    np.clip(seconds, 0.3, 60, out=seconds)
    tokens = np.ceil(seconds * 12.5).astype(np.int32)
    tokens += rng.standard_normal(num_rows, np.float32).__imul__(8).__iadd__(25).clip(4).astype(np.int32)
    seconds *= 100
    turns = rng.integers(3, 11, num_rows // 3 + 1)
    conversations = np.repeat(np.arange(len(turns), dtype=np.int32), turns)[:num_rows]
    ticks = np.ceil(seconds).astype(np.int32)
    return PlanRows(num_tokens=tokens, ticks=ticks, conversations=conversations, whole=True)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def with_row_groups(rows):
    sizes = rows.ticks * 480 + 44
    groups = np.bincount(rows.conversations, sizes).cumsum() // GROUP_BYTES
    return replace(rows, row_groups=groups.astype(np.int32)[rows.conversations], num_bytes=sizes)


def plan(case: dict, num_rows: int, context: int, folder: Path) -> dict:
    from speechrows.folder.index import Index
    from speechrows.loader.plan.epoch import plan_epoch
    from speechrows.loader.plan.values import PlanOptions
    from speechrows.loader.plan_rows import plan_rows

    case = dict(case)
    index = Index.open(str(folder), "ttt") if case.pop("indexed", False) else None
    rows = plan_rows(index) if index else lengths(num_rows)
    if "window_bytes" in case:
        rows = with_row_groups(rows)
    if case.pop("alone", False):
        rows = replace(rows, whole=False)
    options = {"micro_batches": 24, "pad_to_multiple_of": 64, **case}
    if "mode" in case:
        options["context"] = context
    start = time.perf_counter()
    planned = plan_epoch(rows, PlanOptions(**options))
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    digest = planned.digest
    digested = time.perf_counter() - start
    start = time.perf_counter()
    next(planned.for_rank(0, 8, len(planned) * 9 // 10))
    resumed = time.perf_counter() - start
    totals = np.bincount(rows.conversations, rows.num_tokens).astype(np.int64)
    ceiling = totals.sum() / (-(-totals // 64) * 64).sum()
    return {"seconds": seconds, "digest_s": digested, "resume_ms": resumed * 1000, "peak_mb": peak_mb(),
            "padding": planned.padding, "fill": planned.fill,
            "ceiling": ceiling, "digest": digest}  # fmt: skip


def write_index(folder: Path, num_rows: int) -> None:
    """The index, and the card, of a folder with so many rows of ttt; no shards: they are not opened."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from speechrows.folder.manifest import ShardEntry
    from speechrows.folder.manifest import TaskFacts
    from speechrows.rows.ledger import LedgerSummary
    from speechrows.text.options import TemplateOptions

    rows = lengths(num_rows)
    counts = np.bincount(rows.conversations).astype(np.int32)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    padded = -(-rows.num_tokens // 64) * 64
    conversation_tokens = np.repeat(np.bincount(rows.conversations, padded).astype(np.int32), counts)
    shards = firsts // 3000  # about 1 GB of 24 kHz WAV
    paths = [f"data/ttt/train/band_1/{i:05d}.parquet" for i in range(shards[-1] + 1)]
    facts = TaskFacts(
        shards=tuple(
            ShardEntry(path=path, rows=count, size=1, footer_sha256="")
            for path, count in zip(paths, np.bincount(shards).tolist(), strict=True)
        ),
        ledger=LedgerSummary(),
        audio_tokens_per_second=Fraction(25, 2),
        template_options=TemplateOptions(),
    )
    index = folder / "index/ttt/train.parquet"
    index.parent.mkdir(parents=True)
    writer = None
    for at in range(0, num_rows, 1_000_000):
        part = slice(at, at + 1_000_000)
        ids = [
            f"deepdialogue-xtts/dialogues_llama3-8B_cohere7B/health_2_{i}" for i in rows.conversations[part]
        ]
        zeros = np.zeros(len(ids), np.int32)
        columns = {
            "row_id": [f"deepdialogue_ttt/train/{conversation}/ttt" for conversation in ids],
            "conversation_id": ids,
            "turn_number": (np.arange(num_rows, dtype=np.int32) - firsts)[part].astype(np.int32),
            "num_turns": np.repeat(counts, counts)[part],
            "num_tokens": rows.num_tokens[part],
            "conversation_tokens": conversation_tokens[part],
            "padded_tokens": padded[part],
            "num_samples": rows.ticks[part].astype(np.int64) * 240,
            "sampling_rate": zeros + 24000,
            "row_group": zeros,
            "audio_offset": np.arange(len(ids)) * 370_000,
            "audio_length": rows.ticks[part].astype(np.int64) * 480 + 44,
            "shard": pa.DictionaryArray.from_arrays(shards[part].astype(np.int32), paths),
        }
        table = pa.table(columns).replace_schema_metadata(facts.to_metadata())
        writer = writer or pq.ParquetWriter(index, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=1 << 17)  # as a build does
    assert writer is not None
    writer.close()
    files = "data_files:\n  - split: train\n    path: data/ttt/train/band_1/*.parquet\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: ttt\n  {files}---\n")


def read_index(folder: Path) -> dict:
    from speechrows.folder.index import Index

    before = peak_mb()
    start = time.perf_counter()
    index = Index.open(str(folder), "ttt")
    seconds = time.perf_counter() - start
    peak = peak_mb()
    start = time.perf_counter()
    index.row_id(len(index) // 2)
    return {"seconds": seconds, "peak_mb": peak, "before_mb": before, "row_id_s": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        case = CASES[arguments.case]
        rows, folder = arguments.rows, arguments.folder
        measured = plan(case, rows, arguments.context, folder) if case else read_index(folder)
        print(json.dumps(measured))
        return
    announce((25 + 60 * arguments.rounds) * arguments.rows / 10_000_000)
    with tempfile.TemporaryDirectory() as folder:
        benchmarks = str(Path(__file__).parent)
        code = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import plan\n"
        code += "plan.write_index(pathlib.Path(sys.argv[2]), int(sys.argv[3]))"
        subprocess.run([sys.executable, "-c", code, benchmarks, folder, str(arguments.rows)], check=True)
        run = [sys.executable, __file__, "--rows", str(arguments.rows), "--context", str(arguments.context)]
        values = {}
        print("| | s (median, min to max) | peak MB | padding | fill |\n|---|---|---:|---:|---:|")
        for case in CASES:
            command = [*run, "--case", case, "--folder", folder]
            runs = [json.loads(subprocess.check_output(command)) for _ in range(arguments.rounds)]
            took = [measured["seconds"] for measured in runs]
            text = f"{statistics.median(took):.2f} ({min(took):.2f} to {max(took):.2f})"
            values |= runs[0]
            is_plan = "fill" in runs[0]
            shown = (f"{values['padding']:.5f}", f"{values['fill']:.2%}") if is_plan else ("–", "–")
            print(f"| {case} | {text} | {values['peak_mb']:.0f} | {shown[0]} | {shown[1]} |", flush=True)
    print(f"\nConversations closed on 64 fill at most {values['ceiling']:.2%}. A digest takes "
          f"{values['digest_s']:.2f} s, going on at 90 % of the epoch {values['resume_ms']:.2f} ms, "
          f"a row's name {values['row_id_s']:.2f} s. Before the index is read, its process has "
          f"{values['before_mb']:.0f} MB.")  # fmt: skip


if __name__ == "__main__":
    main()
