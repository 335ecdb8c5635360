"""Mixes: planning one of 20 sources and 10 million rows, `where`, and loading beside its sources alone.

Planning and `where` are measured in processes of their own, on the indexes of plan.py; loading on rows of
synthetic speech, one run, rounds of all contenders interleaved, since a shared machine's speed drifts.

    python benchmarks/mix.py [--rows 10000000] [--sources 20] [--rounds 3] [--dialogues 300]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import announce
from plan import peak_mb

HERE = str(Path(__file__).parent)
PLANS = {
    "bucket, 400 s": {"budget_seconds": 400.0},
    "pack": {"mode": "pack", "context": 8192},
    "lanes, 24 x 4": {"mode": "lanes", "context": 8192, "batch_size": 4},
}
WHERE = {
    "seconds": [["seconds", "<=", 9]],
    "conversation_id startswith": [["conversation_id", "startswith", "deepdialogue-xtts/"]],
    "hash": [["hash", "<", 0.5]],
}


def open_mix(folders: list[Path], where=()):
    """The rows of a mix by shares, as OpenedMix opens them; the folders have no tokenizer and no shards."""
    from tokenizers import Tokenizer
    from tokenizers import models
    from transformers import PreTrainedTokenizerFast

    from speechrows.loader import opened_mix
    from speechrows.loader.opened_folder import OpenedFolder
    from speechrows.mix import Mix
    from speechrows.mix import Source

    OpenedFolder.tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    sources = [
        Source(name=f"s{i}", path=str(folder), config="ttt", weight=1 + i % 5, where=where)
        for i, folder in enumerate(folders)
    ]
    mix = Mix(sources=sources, epoch={"samples": 10_000_000})
    return opened_mix.OpenedMix(mix).rendered().mix


def planned(folders: list[Path], options: dict) -> dict:
    from speechrows.loader.plan.values import PlanOptions

    start = time.perf_counter()
    mix = open_mix(folders)
    opened = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    plan = mix.plan(PlanOptions(micro_batches=24, pad_to_multiple_of=64, **options), 0)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak, start = peak_mb(), time.perf_counter()
    mix.epoch(1000)
    return {"seconds": seconds, "cpu": cpu, "opened": opened, "peak": peak, "rows": len(plan.rows),
            "epoch_1000": time.perf_counter() - start}  # fmt: skip


def filtered(folder: Path, where: list) -> dict:
    from speechrows.folder.index import Index
    from speechrows.mix.conditions import parse_where
    from speechrows.mix.masks import holding
    from speechrows.mix.masks import kept_rows

    index, dnf = Index.open(str(folder), "ttt"), parse_where(where)
    start, cpu = time.perf_counter(), time.process_time()
    kept = kept_rows(index, [dnf], holding(index, dnf[0]))
    return {
        "cpu": time.process_time() - cpu,
        "seconds": time.perf_counter() - start,
        "rows": int(kept.sum()),
        "peak": peak_mb(),
    }


def run(case: str, *arguments: str) -> dict:
    return json.loads(subprocess.check_output([sys.executable, __file__, "--case", case, *arguments]))


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def loading(work: Path, dialogues: int, rounds: int) -> None:
    """An epoch of a mix of two folders beside epochs of each alone: seconds of audio a second."""
    import speechrows
    from speechrows.mix import Mix
    from speechrows.mix import Source

    folders = {"WAV": [], "FLAC": ["--form", "FLAC"]}
    for form, flags in folders.items():
        command = [sys.executable, f"{HERE}/loader_corpus.py", str(work / form), str(dialogues), *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    halves = [Source(name=form, path=str(work / form), config="ttt") for form in folders]
    for title, contenders in {
        "two sources alike": {
            "WAV alone": (str(work / "WAV"), "ttt"),
            "the mix": (Mix(sources=[halves[0], Source(name="2", path=str(work / "WAV"), config="ttt")]), ""),
        },
        "WAV and FLAC": {
            "WAV alone": (str(work / "WAV"), "ttt"),
            "FLAC alone": (str(work / "FLAC"), "ttt"),
            "the mix": (Mix(sources=halves), ""),
        },
    }.items():
        loaders = {
            name: speechrows.load(path, config, budget_seconds=400, num_threads=2)
            for name, (path, config) in contenders.items()
        }
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for number in range(rounds + 1):  # the first fills caches
            for name, loader in loaders.items():
                start, audio = time.perf_counter(), 0.0
                for ragged in loader.ragged():
                    audio += float((ragged.num_samples / ragged.sampling_rates).sum())
                    ragged.release()
                if number:
                    rates[name].append(audio / (time.perf_counter() - start))
        slowest = [
            min(pair) for pair in zip(*(rates[name] for name in rates if name != "the mix"), strict=True)
        ]
        paired = [mixed / other for mixed, other in zip(rates["the mix"], slowest, strict=True)]
        medians = ", ".join(f"{name} {statistics.median(values):,.0f}" for name, values in rates.items())
        print(f"{title}: {medians} audio s a second; the mix by the slowest source alone {spread(paired)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--sources", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dialogues", type=int, default=300, help="of 6 turns of about 5 s")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("folders", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case in PLANS:
        print(json.dumps(planned(options.folders, PLANS[options.case])))
        return
    if options.case in WHERE:
        print(json.dumps(filtered(options.folders[0], WHERE[options.case])))
        return
    announce(240)
    with tempfile.TemporaryDirectory() as work:
        code = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import plan\n"
        code += "plan.write_index(pathlib.Path(sys.argv[2]), int(sys.argv[3]))"
        counts = [options.rows // options.sources] * options.sources
        folders = [Path(work) / str(i) for i in range(len(counts))]
        for folder, count in zip(folders, counts, strict=True):
            subprocess.run([sys.executable, "-c", code, HERE, folder, str(count)], check=True)
        print(
            "| plan of a mix | s | s of CPU | opened in s | epoch 1000's rows in s | peak MB |\n"
            "|---|---|---|---|---|---:|"
        )
        for case in PLANS:
            runs = [run(case, *map(str, folders)) for _ in range(options.rounds)]
            names = ("seconds", "cpu", "opened", "epoch_1000")
            cells = [spread([each[name] for each in runs]) for name in names]
            print(f"| {case} | {' | '.join(cells)} | {max(each['peak'] for each in runs):.0f} |", flush=True)
        whole = Path(work) / "whole"
        subprocess.run([sys.executable, "-c", code, HERE, whole, str(options.rows)], check=True)
        print("\n| where, of as many rows | s | s of CPU |\n|---|---|---|")
        for case in WHERE:
            runs = [run(case, str(whole)) for _ in range(options.rounds)]
            cells = [spread([each[name] for each in runs]) for name in ("seconds", "cpu")]
            print(f"| {case} | {' | '.join(cells)} |", flush=True)
        print()
        loading(Path(work), options.dialogues, options.rounds)


if __name__ == "__main__":
    main()
