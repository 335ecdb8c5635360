"""A build from start to card: claim the folder, build missing shards, merge, describe."""

import filecmp
import json
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from speechrows.builds import state
from speechrows.builds.commit import Commit
from speechrows.builds.engine import MakePipeline
from speechrows.builds.engine import build_shards
from speechrows.builds.locks import one_after_another
from speechrows.builds.pipeline import Pipeline
from speechrows.builds.place import Place
from speechrows.card import card
from speechrows.card.prose import About
from speechrows.corpora.reader import Shard
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.folder.layout import CARD
from speechrows.folder.layout import PICTURES
from speechrows.folder.layout import SKIPPED
from speechrows.folder.layout import TOKENIZER
from speechrows.folder.layout import index_path
from speechrows.folder.manifest import BuiltShard
from speechrows.folder.manifest import TaskFacts
from speechrows.rows.ledger import MAX_SKIPPED
from speechrows.rows.ledger import LedgerSummary
from speechrows.text import tokenizers
from speechrows.text.options import TemplateOptions
from speechrows.types import Task
from speechrows.workers.local import LocalEngine
from speechrows.workers.work import Engine

_INDEX_GROUP_ROWS = 1 << 17


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """What to build.

    `recipe` is everything that decides the rows, by name. It stays the JSON that it is written as: it is
    compared key by key and shown to people, most keys are flags of one builder alone, and a folder holds
    recipes of other runs. `SpeechConfig.recipe` makes it; a build reads none of its values.
    """

    builder: str
    command: str  # BUILDER, as `speechrows build` takes it
    about: About
    task: Task
    recipe: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerFast
    tokenizer_digest: str
    template_options: TemplateOptions
    contents: str  # what was found in the corpus, in words
    shards: Sequence[Shard]
    pipeline: Pipeline
    make_pipeline: MakePipeline  # in another process
    unions: Mapping[str, tuple[str, ...]]  # configs that show several tasks, by name


def build(
    job: BuildJob,
    out: Path | Place,
    *,
    num_proc: int = 1,
    engine: Engine | None = None,
    max_skipped: float = MAX_SKIPPED,
    overwrite: bool = False,
    tell: Callable[[str], object] = str,  # nobody is told
) -> LedgerSummary:
    """Build a task's rows into a folder, here or in a store; an unfinished build resumes.

    `tell` gets a line where there is something to say of what will be built: what is there already,
    processes for which there is no shard, and another build that has to be waited for.

    Shards are built in `num_proc` processes, or where an `engine` has it done. Returns the ledger's counts.
    The published files depend on the job alone: not on the day, the machine, the number of processes, or how
    often the build was stopped.

    Raises:
        UsageError: the folder holds something else, or another build holds it.
        FullDiskError: there was no room; finished shards are kept.
        ShortfallError: faults above `max_skipped` of the items; finished shards are kept.
    """
    place = Place.of(out)
    with place.locked(tell):
        _claim(job, place, overwrite=overwrite)
        _build_missing(job, job.shards, place, engine or LocalEngine(num_proc=num_proc), tell)
        return _merge(job, place, max_skipped)


def _merge(job: BuildJob, place: Place, max_skipped: float) -> LedgerSummary:
    """Make what is no shard's of all that are finished: faults, indexes, card."""
    task, out = job.task.name, place.here
    commits = {name: state.commits(out, name) for name in sorted(state.recipes(out))}
    ledger = _merge_ledgers(commits[task])
    _write_skipped(out, commits)
    ledger.check(max_skipped)
    _merge_indexes(job, out, commits[task], ledger)
    _remove_strays(out, task, commits[task])
    _write_card(job, place, commits)
    place.finish(task, commits[task])
    return ledger


def build_some(
    job: BuildJob, out: Path | Place, numbers: range, engine: Engine, tell: Callable[[str], object] = str
) -> LedgerSummary:
    """Build a task's shards of some numbers, while other runs may build others into the same folder.

    Returns the counts of these shards. What is made of all of them, indexes and card, `build` makes
    afterwards, which finds them there.

    Raises:
        UsageError: the folder holds something else, or a build of all shards holds it; or there is no such
            shard.
    """
    place, shards = Place.of(out), [shard for shard in job.shards if shard.number in numbers]
    if not shards:
        raise UsageError(
            f"--shards {numbers.start}-{numbers.stop - 1}: found {len(job.shards)} shards of "
            f"{job.task.name}, expected some of 0-{len(job.shards) - 1}"
        )
    with place.locked(tell, is_shared=True):
        with one_after_another(place.here):
            _claim(job, place, overwrite=False)
        _build_missing(job, shards, place, engine, tell)
        files = [state.commit_file(place.here, job.task.name, shard.number) for shard in shards]
        return _merge_ledgers([Commit.read(file) for file in files])


def _claim(job: BuildJob, place: Place, *, overwrite: bool) -> None:
    place.begin()
    claim = state.Claim(
        builder=job.builder, tokenizer=job.tokenizer_digest, task=job.task.name, recipe=job.recipe
    )
    place.claim(claim, overwrite=overwrite)
    _keep_tokenizer(job, place.here)
    place.write_claim()


def _build_missing(
    job: BuildJob, shards: Sequence[Shard], place: Place, engine: Engine, tell: Callable[[str], object]
) -> None:
    missing = place.missing(job.task.name, shards)
    _tell_before(job, len(shards), len(missing), engine, tell)
    with _progress_bar(job, shards, missing) as bar:
        engine = engine.with_at_most(place.most_processes(job.task, missing))
        build_shards(missing, job.pipeline, job.make_pipeline, place, engine, bar.update)
    place.collect(job.task.name)


def _tell_before(
    job: BuildJob, num_shards: int, num_missing: int, engine: Engine, tell: Callable[[str], object]
) -> None:
    """Tell what a person has to know before so many shards are built."""
    if not num_missing:
        tell(printable(f"{job.task.name} is built already, of the same files and flags: nothing to do"))
        return
    if num_missing < num_shards:
        tell(printable(f"goes on: {num_shards - num_missing} of {num_shards} shards are built already"))
    is_stream = job.shards[0].units[0].in_stream
    if is_stream and engine.cluster_gpus is not None:
        tell("--engine ray: the corpus is one stream, which one process reads: this one")
    useful = 1 if is_stream else num_missing
    num_proc = engine.num_proc
    if num_proc is not None and num_proc > useful:
        why = (
            "one reads the corpus, which is one stream"
            if is_stream
            else "each builds a shard of those missing"
        )
        tell(printable(f"--num-proc {num_proc}: only {useful} of the processes can work: {why}"))


def _keep_tokenizer(job: BuildJob, out: Path) -> None:
    """Write the tokenizer where it is not there as it should be: lost, or damaged since."""
    new, kept = state.temporary_folder(out) / TOKENIZER, out / TOKENIZER
    tokenizers.save(job.tokenizer, new)
    names = {path.name for path in new.iterdir()}
    same = filecmp.cmpfiles(new, kept, names, shallow=False)[0] if kept.is_dir() else []
    if not kept.is_dir() or not {path.name for path in kept.iterdir()} == names == {*same}:
        state.replace_folder(new, kept)


def _progress_bar(job: BuildJob, shards: Sequence[Shard], missing: Sequence[Shard]) -> Any:
    """A progress bar of the corpus' bytes; it begins at what an earlier run built."""
    total = sum(shard.num_bytes for shard in shards)
    return tqdm(
        total=total,
        initial=total - sum(shard.num_bytes for shard in missing),
        desc=printable(f"{job.builder}/{job.task.name}"),
        unit="B",
        unit_scale=True,
        disable=None,  # quiet when not a terminal
    )


def _write_card(job: BuildJob, place: Place, commits: Mapping[str, Sequence[Commit]]) -> None:
    """The card of every task in the folder that is finished; the last file to be written."""
    out = place.here
    recipes = state.recipes(out)
    tasks = {
        name: card.BuiltTask(
            files=_files(commits[name]), ledger=_merge_ledgers(commits[name]), recipe=recipes[name]
        )
        for name in commits
        if _is_indexed(out, name, commits[name])
    }
    text, pictures = card.describe(
        out, job.builder, job.command, job.about, tasks, job.unions, job.tokenizer, place.open_shard
    )
    for path, data in pictures.items():
        (state.temporary_folder(out) / path).parent.mkdir(parents=True, exist_ok=True)
        (state.temporary_folder(out) / path).write_bytes(data)
    state.replace_folder(state.temporary_folder(out) / PICTURES, out / PICTURES)
    state.write_text(out / CARD, text, out)


def _is_indexed(out: Path, task: str, commits: Sequence[Commit]) -> bool:
    splits = {file.split for file in _files(commits)}
    return bool(splits) and all((out / index_path(task, split)).exists() for split in splits)


def _files(commits: Sequence[Commit]) -> list[BuiltShard]:
    return [file for commit in commits for file in commit.files]


def _merge_ledgers(commits: Sequence[Commit]) -> LedgerSummary:
    return sum((commit.ledger for commit in commits), LedgerSummary())


def _write_skipped(out: Path, commits: Mapping[str, Sequence[Commit]]) -> None:
    """skipped.jsonl: the faults of every task in the folder, in shard order."""
    lines = [
        json.dumps(line, ensure_ascii=True) + "\n"
        for task in commits.values()
        for commit in task
        for line in commit.lines
    ]
    state.write_text(out / SKIPPED, "".join(lines), out)


def _merge_indexes(job: BuildJob, out: Path, commits: Sequence[Commit], ledger: LedgerSummary) -> None:
    """One index a split, in file order: band by band, shard by shard."""
    task = job.task.name
    files = sorted(_files(commits), key=lambda file: file.path)
    for split in sorted({file.split for file in files}):
        shards = tuple(file for file in files if file.split == split)
        facts = TaskFacts(
            shards=shards,
            ledger=ledger,
            audio_tokens_per_second=job.pipeline.spec.tokens_per_second,
            template_options=job.template_options,
        )
        temporary = state.temporary_folder(out) / f"{split}.parquet"
        writer: pq.ParquetWriter | None = None
        parts = (pq.read_table(state.task_folder(out, task) / shard.index) for shard in shards)
        for group in _joined(parts):
            lines = group.replace_schema_metadata(facts.to_metadata())
            writer = writer or pq.ParquetWriter(temporary, lines.schema, compression="zstd")
            writer.write_table(lines, row_group_size=len(lines))
        assert writer is not None
        writer.close()
        state.publish(temporary, out / index_path(task, split))


def _joined(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join parts to row groups of _INDEX_GROUP_ROWS: many small ones would be read slowly."""
    pending: list[pa.Table] = []
    for part in parts:
        pending.append(part)
        if sum(map(len, pending)) >= _INDEX_GROUP_ROWS:
            yield pa.concat_tables(pending).unify_dictionaries()
            pending = []
    if pending:
        yield pa.concat_tables(pending).unify_dictionaries()


def _remove_strays(out: Path, task: str, commits: Sequence[Commit]) -> None:
    """Delete shards that no commit names: an overwritten build of another recipe left them."""
    named = {out / file.path for file in _files(commits)}
    for path in (out / "data" / task).rglob("*.parquet"):
        if path not in named:
            path.unlink()
