"""A build from start to card: claim the folder, build what is missing, merge, describe."""

import json
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

from speechrows.builds import engine
from speechrows.builds import state
from speechrows.builds.pipeline import Pipeline
from speechrows.card import card
from speechrows.card.prose import About
from speechrows.corpora.reader import Shard
from speechrows.folder.layout import CARD
from speechrows.folder.layout import SKIPPED
from speechrows.folder.layout import TOKENIZER
from speechrows.folder.layout import index_path
from speechrows.rows import ledger
from speechrows.text import tokenizers
from speechrows.text.template import template_options
from speechrows.types import Task

_INDEX_GROUP_ROWS = 1 << 17


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """What to build. `recipe` is everything that decides the rows, by name, for people too."""

    builder: str
    about: About
    task: Task
    recipe: dict[str, Any]
    tokenizer: PreTrainedTokenizerFast
    found: str  # in the corpus, in words
    shards: Sequence[Shard]
    pipeline: Pipeline
    make_pipeline: engine.MakePipeline  # in another process
    unions: Mapping[str, tuple[str, ...]]  # configs that show several tasks, by name


def build(
    job: BuildJob,
    out: Path,
    *,
    num_proc: int = 1,
    max_skipped: float = ledger.MAX_SKIPPED,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Build a task's rows into a folder, or go on with a build that was stopped.

    Returns the ledger's summary. The published files depend on the job alone: not on the day,
    the machine, `num_proc`, or how often the build was stopped.

    Raises:
        UsageError: the folder holds something else, or another build holds it.
        FullDiskError: there was no room; finished shards are kept.
        ShortfallError: faults above `max_skipped` of the items; finished shards are kept.
    """
    task = job.task.name
    out = out.absolute()  # pyarrow would take "a::b" for the address of a store
    with state.locked(out):
        mine = state.Claim(
            builder=job.builder, tokenizer=job.recipe["tokenizer"], task=task, recipe=job.recipe
        )
        state.claim(out, mine, overwrite=overwrite)
        if not (out / TOKENIZER).exists():
            tokenizers.save(job.tokenizer, state.temporary_folder(out) / TOKENIZER)
            state.replace_folder(state.temporary_folder(out) / TOKENIZER, out / TOKENIZER)
        missing = [s for s in job.shards if not state.finished(out, task, s.number)]
        with _progress_bar(job, missing) as bar:
            engine.run(missing, job.pipeline, job.make_pipeline, out, num_proc, bar.update)
        commits = {name: state.commits(out, name) for name in _tasks(out)}
        summary = _merge_ledgers(commits[task])
        _write_skipped(out, commits)
        ledger.check_faults(summary, max_skipped)
        _merge_indexes(out, task, commits[task], summary, job.recipe)
        _remove_strays(out, task, commits[task])
        _write_card(job, out, commits)
    return summary


def _progress_bar(job: BuildJob, missing: Sequence[Shard]) -> Any:
    """Bytes of the corpus, with rate and time left; what an earlier run built is done already."""
    total = sum(shard.num_bytes for shard in job.shards)
    return tqdm(
        total=total,
        initial=total - sum(shard.num_bytes for shard in missing),
        desc=f"{job.builder}/{job.task.name}",
        unit="B",
        unit_scale=True,
        disable=None,  # quiet when not a terminal
    )


def _write_card(job: BuildJob, out: Path, commits: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """The card of every task in the folder that is finished; the last file to be written."""
    recipes = json.loads(state.recipe_file(out).read_text("utf-8"))["tasks"]
    tasks = {
        name: card.Built(commits=c, ledger=_merge_ledgers(c), recipe=recipes[name])
        for name, c in commits.items()
        if _is_indexed(out, name, c)
    }
    text, pictures = card.describe(out, job.builder, job.about, tasks, job.unions, job.tokenizer)
    for path, data in pictures.items():
        (state.temporary_folder(out) / path).parent.mkdir(parents=True, exist_ok=True)
        (state.temporary_folder(out) / path).write_bytes(data)
    state.replace_folder(state.temporary_folder(out) / card.PICTURES, out / card.PICTURES)
    state.write_text(out / CARD, text, out)


def _is_indexed(out: Path, task: str, commits: Sequence[dict[str, Any]]) -> bool:
    splits = {file["split"] for commit in commits for file in commit["files"]}
    return bool(splits) and all((out / index_path(task, split)).exists() for split in splits)


def _tasks(out: Path) -> list[str]:
    return sorted(json.loads(state.recipe_file(out).read_text("utf-8"))["tasks"])


def _merge_ledgers(commits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    total = ledger.Ledger().summary()
    for commit in commits:
        for key, value in commit["ledger"].items():
            if isinstance(value, dict):
                for reason, count in value.items():
                    total[key][reason] = total[key].get(reason, 0) + count
            else:
                total[key] += value
    return {k: dict(sorted(v.items())) if isinstance(v, dict) else v for k, v in total.items()}


def _write_skipped(out: Path, commits: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """skipped.jsonl: the faults of every task in the folder, in shard order."""
    lines = [
        json.dumps(line, ensure_ascii=True) + "\n"
        for task in commits.values()
        for commit in task
        for line in commit["lines"]
    ]
    state.write_text(out / SKIPPED, "".join(lines), out)


def _merge_indexes(
    out: Path, task: str, commits: Sequence[dict[str, Any]], summary: dict[str, Any], recipe: dict[str, Any]
) -> None:
    """One index a split, in file order: band by band, shard by shard."""
    files = sorted((file for commit in commits for file in commit["files"]), key=lambda f: f["path"])
    for split in sorted({file["split"] for file in files}):
        mine = [file for file in files if file["split"] == split]
        facts = {
            "shards": {f["path"]: {k: f[k] for k in ("size", "rows", "footer_sha256")} for f in mine},
            "ledger": summary,
            "audio_tokens_per_second": recipe["audio_tokens_per_second"],
            "form": template_options(recipe),
        }
        temporary = state.temporary_folder(out) / f"{split}.parquet"
        metadata = {"speechrows": json.dumps(facts, sort_keys=True)}
        writer: pq.ParquetWriter | None = None
        for group in _joined(pq.read_table(state.task_folder(out, task) / file["index"]) for file in mine):
            lines = group.replace_schema_metadata(metadata)
            writer = writer or pq.ParquetWriter(temporary, lines.schema, compression="zstd")
            writer.write_table(lines, row_group_size=len(lines))
        assert writer is not None
        writer.close()
        state.publish(temporary, out / index_path(task, split))


def _joined(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """As many parts together as it takes for a row group: many small ones are read slowly."""
    pending: list[pa.Table] = []
    for part in parts:
        pending.append(part)
        if sum(map(len, pending)) >= _INDEX_GROUP_ROWS:
            yield pa.concat_tables(pending).unify_dictionaries()
            pending = []
    if pending:
        yield pa.concat_tables(pending).unify_dictionaries()


def _remove_strays(out: Path, task: str, commits: Sequence[dict[str, Any]]) -> None:
    """Shards that no commit names: left by a build of another recipe that was overwritten."""
    named = {out / file["path"] for commit in commits for file in commit["files"]}
    for path in (out / "data" / task).rglob("*.parquet"):
        if path not in named:
            path.unlink()
