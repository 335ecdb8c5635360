"""`speechrows generate sift | mimi | units`: the flags. What runs is imported when it runs."""

import argparse
import importlib
from pathlib import Path

from speechrows.rows.tasks import SIFT


def add_generate_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of each kind of column that can be generated."""
    kinds = parser.add_subparsers(required=True, dest="kind", metavar="KIND")
    sift = kinds.add_parser("sift", help="answers, written by a language model")
    _add_source(sift)
    _add_sift(sift)
    mimi = kinds.add_parser("mimi", help="Mimi codes: 8 codebooks, 12.5 frames a second")
    _add_source(mimi)
    mimi.add_argument(
        "--model", default="kyutai/mimi", help="a Hub repository or a folder (default: %(default)s)"
    )
    mimi.add_argument(
        "--verify", type=int, default=0, metavar="N", help="encode N clips again alone; count what differs"
    )
    _add_encoder(mimi)
    units = kinds.add_parser("units", help="units: a k-means over a layer of HuBERT or XLS-R")
    _add_source(units)
    units.add_argument(
        "--model", required=True, help="a HuBERT, wav2vec 2.0 or XLS-R: a Hub repository or a folder"
    )
    units.add_argument("--layer", type=int, required=True, metavar="N", help="whose output is clustered")
    units.add_argument(
        "--kmeans", required=True, metavar="FILE.npy", help="the centroids, float32 [units, width]"
    )
    _add_encoder(units)


def _add_source(command: argparse.ArgumentParser) -> None:
    """The flags of a source."""
    add = command.add_argument_group("source").add_argument
    add(
        "--source",
        required=True,
        metavar="FOLDER|org/name|BUILDER",
        help="a built folder, a corpus' builder with --data-dir, or any parquet",
    )
    add("--data-dir", metavar="DIR|hf://…", help="the corpus that BUILDER reads")
    add("--config", metavar="CONFIG", help="of BUILDER (default: its own)")
    add(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a flag of BUILDER, such as turns-per-conversation=4; may be given several times",
    )
    add("--split", help="only this one")
    add("--id-column", metavar="NAME", help="of any parquet (default: clip_id)")
    add("--text-column", metavar="NAME", help="of any parquet (default: text)")
    add("--audio-column", metavar="NAME", help="of any parquet (default: audio)")


def _add_sift(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--mode", required=True, choices=SIFT, help="which of the three prompts, and which task's answers")
    add("--out", type=Path, required=True, metavar="DIR", help="where answers go; one begun there goes on")
    add("--overwrite", action="store_true", help="make all of DIR anew")
    add(
        "--model",
        default="HuggingFaceTB/SmolLM3-3B",
        help="a Hub repository, a folder, a .gguf, or its name at --endpoint (default: %(default)s)",
    )
    add("--temperature", type=float, default=0.8, help="0 for the likeliest words (default: %(default)s)")
    add("--top-p", type=float, default=0.92, help="(default: %(default)s)")
    add("--max-new-tokens", type=int, default=256, metavar="N", help="of an answer (default: %(default)s)")
    add("--seed", type=int, help="of the sampling (default: 0 in this process, none at an endpoint)")
    here = command.add_argument_group("in this process").add_argument
    here("--device", default="auto", help="cpu, cuda, or auto (default)")
    here("--batch-size", type=int, metavar="N", help="answers at once (default: 256 on a GPU, 16 on a CPU)")
    there = command.add_argument_group(
        "at an OpenAI-compatible endpoint (vLLM, transformers serve)"
    ).add_argument
    there("--endpoint", metavar="http://…/v1", help="ask there, not in this process")
    there("--concurrency", type=int, default=32, metavar="N", help="requests at once (default: %(default)s)")
    there("--requests-per-second", type=float, metavar="F", help="at most (default: no limit)")
    there(
        "--api-key-env",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="the environment variable that holds the key, if it wants one (default: %(default)s)",
    )


def _add_encoder(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="where values go; one begun there goes on")
    add("--overwrite", action="store_true", help="make all of DIR anew")
    add("--device", default="auto", help="cpu, cuda, or auto (default)")
    add("--batch-seconds", type=float, metavar="S", help="of audio at once (default: what suits the device)")


def run(options: argparse.Namespace) -> int:
    """Generate a kind of column and print what became of the clips; the exit code."""
    # By name, when it is needed: --help does without datasets, and sift at an endpoint without torch.
    module = importlib.import_module(f"speechrows.generate.{options.kind}")
    report = getattr(module, f"run_{options.kind}")(options)
    print(report)
    return 1 if report.faults and not report.made else 0
