"""`speechrows build`: a builder's own flags, and its jobs one after another."""

import argparse
import os
import re
from dataclasses import Field
from dataclasses import fields
from pathlib import Path
from typing import Any

from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.builder import load_builder
from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flags_of
from speechrows.builder.find import check_config
from speechrows.builder.nearby import corpora_below
from speechrows.builds.place import Place
from speechrows.builds.run import BuildJob
from speechrows.builds.run import build
from speechrows.builds.run import build_some
from speechrows.builds.state import commits
from speechrows.console import tell_at_once
from speechrows.console import tell_on_stderr
from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import list_units
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.flags import add_flags
from speechrows.folder.layout import CARD
from speechrows.rows.ledger import UNREADABLE
from speechrows.text.audio_token import audio_token
from speechrows.types import AUDIO_TOKEN
from speechrows.workers.engines import engine_of
from speechrows.workers.work import Engine


def add_builder_flags(parser: argparse.ArgumentParser, builder: str) -> None:
    """Add a flag for each choice that a builder's config has, and the names of its configs to the help.

    Raises:
        UsageError: there is no such builder.
    """
    add_flags(parser, _choices(builder))
    configs = ", ".join(config.name for config in load_builder(builder).BUILDER_CONFIGS)
    parser.epilog = f"CONFIG of {builder} is one of: {configs}."


def run(options: argparse.Namespace) -> int:
    """Build the rows that the options ask for, print what became of the corpus; the exit code.

    Raises:
        UsageError: no such builder or config, or options that contradict each other.
        ShortfallError: the corpus has too many faults.
    """
    with engine_of(options, tell_on_stderr) as engine:
        return _run(options, engine)


def _run(options: argparse.Namespace, engine: Engine) -> int:
    builder = load_builder(options.builder)
    check_config(builder, options.config)
    numbers = _numbers(options)
    if not 0 <= options.max_skipped <= 1:
        raise UsageError(f"--max-skipped: found {options.max_skipped}, expected a share from 0 to 1")
    place = Place.at(options.out, options.scratch, part=options.shards or "")
    if options.data_dir and _is_below(options.out, options.data_dir):
        raise UsageError(f"{options.out}: lies in the corpus; give a folder beside it")
    chosen = {field.name: getattr(options, field.name) for field in _choices(options.builder)}
    try:
        speech = builder(config_name=options.config, data_dir=options.data_dir, **chosen)
    except OSError as error:  # datasets makes its cache's folder there
        raise UsageError(
            f"the cache can not be written ({error}); set HF_DATASETS_CACHE or HF_HOME"
        ) from error
    if speech.config.tokenizer is None:
        print("tokenizer: byte-level, made here (one token a byte). For a model, give its --tokenizer")
    else:
        print(printable(f"audio token: {_describe_audio_token(speech.config)}"))
    if options.data_dir is None and speech.config.source is not None:
        print(printable(f"no --data-dir: the corpus is {speech.config.source}. A folder: --data-dir DIR"))
    source = options.data_dir or speech.config.source or "the Hub"
    if numbers is not None:
        _build_some(speech, options, place, source, numbers, engine)
        return 0
    _build_each(speech, options, place, source, engine)
    config = options.config
    if f"config_name: {config}\n" not in (place.here / CARD).read_text("utf-8"):
        config = builder.tasks(config)[0].name
        why = "one task alone has rows" if builder.UNIONS else "every conversation is longer than its limit"
        print(printable(f"{options.config} is {'not listed' if builder.UNIONS else 'empty'}: {why}"))
    print(printable(f"open it with: {_opening(options.out, config)}"))
    return 0


def _is_below(out: str, corpus: str) -> bool:
    """Whether a folder is below another, or the same; a store's is below none that is here."""
    if ("://" in out) != ("://" in corpus):
        return False
    return Path(os.path.realpath(out)).is_relative_to(os.path.realpath(corpus))


def _opening(out: str, config: str) -> str:
    """The call that opens what was built: datasets reads folders and the Hub's datasets, all else we do."""
    dataset = re.fullmatch("hf://datasets/([^/@]+/[^/@]+)", out)
    opener = "load_dataset" if dataset or "://" not in out else "speechrows.load"
    return f'{opener}("{dataset[1] if dataset else out}", "{config}")'


def _describe_audio_token(config: SpeechConfig) -> str:
    """The audio token of a config's tokenizer, and where it is from."""
    token = audio_token(config.inputs.tokenizer)
    if config.audio_token is None and token == AUDIO_TOKEN:
        return f"{token}; the tokenizer names none of its own, --audio-token gives another"
    return token


def _numbers(options: argparse.Namespace) -> range | None:
    """The shards that --shards names; None without it."""
    if options.shards is None:
        return None
    ends = re.fullmatch(r"(\d+)-(\d+)", options.shards)
    if ends is None or int(ends[1]) > int(ends[2]):
        raise UsageError(f"--shards: found {options.shards!r}, expected numbers such as 0-9")
    if options.overwrite:
        raise UsageError(
            "--shards: found --overwrite, by which runs would delete each other's; give one of them"
        )
    return range(int(ends[1]), int(ends[2]) + 1)


def _build_some(
    speech: SpeechBuilder,
    options: argparse.Namespace,
    place: Place,
    source: str,
    numbers: range,
    engine: Engine,
) -> None:
    """Build the shards of some numbers, of each of a config's tasks that has any."""
    jobs = speech.jobs()
    for job in [job for job in jobs if len(job.shards) > numbers.start] or jobs[:1]:
        print(printable(f"{source}: {job.contents}"))
        summary = build_some(job, place, numbers, engine, tell_at_once)
        some = f"{job.task.name}, shards {options.shards} of 0-{len(job.shards) - 1}"
        print(printable(f"{options.out}: {job.builder}, {some}\n{summary.describe()}"))
    print("once all shards are built, the same command without --shards finishes the folder")


def _build_each(
    speech: SpeechBuilder, options: argparse.Namespace, place: Place, source: str, engine: Engine
) -> None:
    """Build each of a config's tasks; where one falls short, the others are built all the same."""
    shortfalls: list[ShortfallError] = []
    for job in speech.jobs():
        print(printable(f"{source}: {job.contents}"))
        try:
            summary = build(
                job,
                place,
                engine=engine,
                max_skipped=options.max_skipped,
                overwrite=options.overwrite,
                tell=tell_at_once,
            )
        except ShortfallError as error:
            shortfalls.append(_of_others(speech, job, place.here) or error)
            continue
        print(printable(f"{options.out}: {job.builder}, {job.task.name} rows\n{summary.describe()}"))
    if shortfalls:
        raise ShortfallError("\n".join(map(str, shortfalls)))


def _of_others(speech: SpeechBuilder, job: BuildJob, out: Path) -> ShortfallError | None:
    """What is said where the faults are files of other corpora: those of --data-dir, or some of them."""
    inputs, title = speech.config.inputs, speech.ABOUT.title

    def num_units(corpus: Corpus, entries: list[Entry]) -> int:
        reader = type(speech).READER(corpus, speech.config, job.task)
        return len(list_units(reader, corpus, entries, speech.name).units)

    files = {unit.file for shard in job.shards for unit in shard.units}
    shards = commits(out, job.task.name)
    lines = [line for commit in shards for line in commit.lines]
    unreadable = {str(line["file"]): line["detail"] for line in lines if line["reason"] == UNREADABLE}
    if files <= unreadable.keys() and not any(commit.ledger.items for commit in shards):
        file = min(files)
        return ShortfallError(
            f"{inputs.corpus.root}: no file of it is of {title}: {file}: {unreadable[file]}. Give --data-dir "
            f"{title} as it is published ({speech.ABOUT.homepage})"
        )
    below = corpora_below(inputs.corpus, inputs.listing, files, unreadable, num_units)
    if not below:
        return None
    return ShortfallError(
        f"{inputs.corpus.root}: found {len(unreadable)} files of other corpora, expected {title} alone. "
        f"Below it, {' and '.join(below)} look like it: give --data-dir {below[0]} --overwrite"
    )


def _choices(builder: str) -> list[Field[Any]]:
    """The fields of a builder's config that are flags."""
    config_class = load_builder(builder).BUILDER_CONFIG_CLASS
    return [field for field in fields(config_class) if field.name in flags_of(config_class)]
