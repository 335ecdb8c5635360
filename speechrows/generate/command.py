"""The flags of `speechrows generate sift | mimi | units | traits`. A kind is imported when it runs."""

import argparse
import importlib
import os

from speechrows.console import tell_on_stderr
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.flags import path
from speechrows.rows.tasks import SIFT
from speechrows.workers.engines import add_engine_flags
from speechrows.workers.engines import engine_of


def add_generate_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of each kind of column that can be generated."""
    kinds = parser.add_subparsers(required=True, dest="kind", metavar="KIND")
    sift = kinds.add_parser("sift", help="answers, written by a language model")
    _add_source(sift)
    _add_sift(sift)
    mimi = kinds.add_parser("mimi", help="Mimi codes: 8 codebooks, 12.5 frames a second")
    _add_source(mimi)
    mimi.add_argument(
        "--model",
        type=os.path.expanduser,
        default="kyutai/mimi",
        help="a Hub repository or a folder (default: %(default)s)",
    )
    mimi.add_argument(
        "--verify",
        type=int,
        default=0,
        metavar="N",
        help="encode N clips again, each alone, and count differences",
    )
    _add_encoder(mimi)
    units = kinds.add_parser("units", help="units: a k-means over a layer of HuBERT or XLS-R")
    _add_source(units)
    units.add_argument(
        "--model",
        type=os.path.expanduser,
        required=True,
        help="a HuBERT, wav2vec 2.0 or XLS-R: a Hub repository or a folder",
    )
    units.add_argument(
        "--layer", type=int, required=True, metavar="N", help="the layer whose output is clustered, from 0"
    )
    units.add_argument(
        "--kmeans", type=path, required=True, metavar="FILE.npy", help="the centroids, float32 [units, width]"
    )
    _add_encoder(units)
    traits = kinds.add_parser("traits", help="speaking rate, pitch, loudness: pace and volume of rows")
    _add_source(traits)
    _add_out(traits)


def _add_source(command: argparse.ArgumentParser) -> None:
    """Add the flags that name the clips."""
    add = command.add_argument_group("clips").add_argument
    add(
        "--source",
        required=True,
        metavar="FOLDER|org/name|BUILDER",
        help="where clips are: a built folder, a corpus' builder with --data-dir, or any parquet",
    )
    add("--data-dir", metavar="DIR|hf://…", help="the corpus that BUILDER reads")
    add("--config", metavar="CONFIG", help="config of BUILDER (default: its own)")
    add(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a flag of BUILDER, such as turns-per-conversation=4; may be given several times",
    )
    add("--split", help="only clips of this split")
    add("--id-column", metavar="NAME", help="column of clip ids in any parquet (default: clip_id)")
    add("--text-column", metavar="NAME", help="column of texts in any parquet (default: text)")
    add("--audio-column", metavar="NAME", help="column of audio in any parquet (default: audio)")


def _add_sift(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--mode", required=True, choices=SIFT, help="the task whose answers are made; each has its prompt")
    _add_out(command)
    add(
        "--with",
        dest="generated",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of `generate traits`: pace and volume of clips whose corpus tells none; repeatable",
    )
    add(
        "--model",
        type=os.path.expanduser,
        default="HuggingFaceTB/SmolLM3-3B",
        help="a Hub repository, a folder, a .gguf, or a model's name at --endpoint (default: %(default)s)",
    )
    add(
        "--temperature",
        type=float,
        default=0.8,
        help="sampling temperature; 0 takes the likeliest tokens (default: %(default)s)",
    )
    add("--top-p", type=float, default=0.92, help="nucleus of the sampling (default: %(default)s)")
    add(
        "--max-new-tokens", type=int, default=256, metavar="N", help="tokens an answer (default: %(default)s)"
    )
    add("--seed", type=int, help="seed of the sampling (default: 0 in this process, none at an endpoint)")
    _add_where_it_runs(command)


def _add_where_it_runs(command: argparse.ArgumentParser) -> None:
    local = command.add_argument_group("model in this process").add_argument
    local("--device", default="auto", help="cpu, cuda, or auto (default)")
    local("--batch-size", type=int, metavar="N", help="answers a batch (default: 256 on a GPU, 16 on a CPU)")
    remote = command.add_argument_group(
        "model at an OpenAI-compatible endpoint (vLLM, transformers serve)"
    ).add_argument
    remote(
        "--endpoint", metavar="http://…/v1", help="its address; without one, the model runs in this process"
    )
    remote("--concurrency", type=int, default=32, metavar="N", help="requests at once (default: %(default)s)")
    remote("--requests-per-second", type=float, metavar="F", help="rate limit (default: none)")
    remote(
        "--api-key-env",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="environment variable with the API key, if one is needed (default: %(default)s)",
    )


def _add_out(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--out", type=path, required=True, metavar="DIR", help="output folder; an unfinished run resumes")
    add("--overwrite", action="store_true", help="delete what earlier runs wrote there, and start anew")
    add_engine_flags(command, "of --engine ray alone (default: this process works")


def _add_encoder(command: argparse.ArgumentParser) -> None:
    _add_out(command)
    add = command.add_argument
    add("--device", default="auto", help="cpu, cuda, or auto (default)")
    add("--batch-seconds", type=float, metavar="S", help="seconds of audio a batch (default: by the device)")


def run(options: argparse.Namespace) -> int:
    """Generate a kind of column and print its report; return the exit code."""
    # By name, when it is needed: --help does without datasets, traits and sift at an endpoint without torch.
    from speechrows.storage.models import is_from_cache  # noqa: PLC0415  # --help does without

    needs_no_model = options.kind == "traits"
    if options.kind == "sift":
        needs_no_model = options.endpoint or options.model.endswith(".gguf")
    if not needs_no_model:
        is_from_cache(options.model, "--model")  # before torch is imported, which takes seconds
    try:
        module = importlib.import_module(f"speechrows.generate.{options.kind}")
    except ImportError as error:
        raise UsageError(
            f"found {error}; generate {options.kind} needs: pip install 'speechrows[codec]'"
        ) from error
    with engine_of(options, tell_on_stderr) as engine:
        if options.num_proc and engine.cluster_gpus is None:
            raise UsageError(
                "--num-proc: one process generates here; expected --engine ray with it. Leave it out"
            )
        report = getattr(module, f"run_{options.kind}")(options, engine)
    print(printable(report))
    return 1 if report.faults and not report.num_made else 0
