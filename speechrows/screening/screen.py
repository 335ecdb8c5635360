"""`speechrows screen`: scores every row of a folder, shard by shard, and keeps what is there.

Scores lie in the folder, a file a task and split (layout.screen_path), or in one file of one's own. Parts of
an unfinished run wait beside them. What is there is not made anew: neither shards whose scores were made the
same way, nor, where languages or the recogniser are others, what does not depend on these.
"""

import contextlib
import shutil
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from speechrows.builds.locks import Tell
from speechrows.builds.state import held
from speechrows.errors import UsageError
from speechrows.folder.layout import CARD
from speechrows.folder.layout import STATE
from speechrows.folder.layout import screen_path
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.scores import SCHEMA
from speechrows.folder.scores import from_metadata
from speechrows.folder.scores import to_metadata
from speechrows.screening.report import ScreenReport
from speechrows.screening.shard import VERSION
from speechrows.screening.shard import Choices
from speechrows.screening.shard import Earlier
from speechrows.screening.shard import Screener
from speechrows.storage.card_head import parse_head
from speechrows.storage.disk import sync
from speechrows.workers.local import HERE
from speechrows.workers.work import Engine
from speechrows.workers.work import Progress
from speechrows.workers.work import Work


@dataclass(frozen=True, kw_only=True, slots=True)
class _Target:
    """A file of scores, and the shards whose rows it holds, in order."""

    path: Path
    shards: tuple[ShardEntry, ...]


def screen(
    address: str,
    *,
    out: Path | None = None,
    languages: Sequence[str] = (),
    asr: str | None = None,
    engine: Engine = HERE,
    num_worst: int = 20,
    overwrite: bool = False,
    tell: Tell = str,
) -> ScreenReport:
    """Score every row of a built folder, or of a Hub dataset, whose scores need an `out` of their own.

    `languages` are codes, by default the card's; `asr` is a folder with a model of faster-whisper. `engine`
    has it done, by default in this process. The scores depend neither on that nor on how often it was
    stopped. Word error rates that are there are kept without an `asr`, too; `overwrite` keeps nothing.

    Raises:
        UsageError: nothing built is there, or not on this machine, without an `out`; or see _keeping.
        ShortfallError: a shard is damaged.
    """
    if out is not None and (out.suffix != ".parquet" or out.is_dir()):
        raise UsageError(f"--out {out}: expected the name of a file that ends with .parquet")
    folder = RowsFolder.open(address)
    if out is None and not folder.is_local:
        raise UsageError(f"{address}: is not on this machine; say where its scores go: --out FILE.parquet")
    choices = Choices(languages=tuple(languages) or languages_of(folder), asr=asr)
    with contextlib.ExitStack() as stack:
        if folder.is_local:
            stack.enter_context(held(Path(folder.root), tell))
        targets, parts = _targets(folder, out)
        files = [] if overwrite else [*(target.path for target in targets), *sorted(parts.glob("*.parquet"))]
        earlier = _earlier(files)
        choices = _keeping(folder.address, choices, earlier, targets)
        screener = Screener(folder, choices, parts, earlier)
        num_rows, num_kept = _screen(screener, targets, engine)
        paths = [target.path for target in targets]
        return ScreenReport.of(folder.address, paths, num_rows, num_kept, num_worst)


def languages_of(folder: RowsFolder) -> tuple[str, ...]:
    """The codes of languages that a folder's card tells; none where it tells none."""
    if not folder.has(CARD):
        return ()
    with folder.naming(CARD), folder.open_file(CARD) as file:
        language: Any = parse_head(file.read().decode("utf-8")).get("language")
    codes: list[Any] = language if isinstance(language, list) else [language]
    return tuple(code for code in codes if isinstance(code, str))


def _targets(folder: RowsFolder, out: Path | None) -> tuple[list[_Target], Path]:
    """The files of scores, and where their parts wait."""
    shards = {split: folder.index_facts(*split).shards for split in folder.splits()}
    if out is not None:
        target = _Target(path=out, shards=tuple(shard for each in shards.values() for shard in each))
        return [target], out.with_name(f".{out.name}.parts")
    root = Path(folder.root)
    targets = [_Target(path=root / screen_path(*split), shards=each) for split, each in shards.items()]
    return targets, root / STATE / "screen"


def _keeping(
    address: str,
    choices: Choices,
    earlier: Mapping[ShardEntry, Sequence[Earlier]],
    targets: Sequence[_Target],
) -> Choices:
    """The choices, with the recogniser whose word error rates are there where none is asked for.

    Raises:
        UsageError: rows would lose theirs, or have none beside others that have.
    """
    shards = [shard for target in targets for shard in target.shards]
    recognisers = [s.recipe["asr"] for shard in shards for s in earlier.get(shard, ()) if s.recipe["asr"]]
    if choices.asr is not None or not recognisers:
        return choices
    kept = replace(choices, kept=recognisers[0])
    rest = [s for s in shards if not any(scores.hears_as(kept.recipe) for scores in earlier.get(s, ()))]
    if rest:
        others = f"{sum(shard.rows for shard in rest):,} rows without, or heard in another language"
        raise UsageError(
            f"{address}: found word error rates by {kept.kept}, and {others}; expected --asr MODEL, or "
            "--overwrite, which drops all scores"
        )
    return kept


def _screen(screener: Screener, targets: Sequence[_Target], engine: Engine) -> tuple[int, int]:
    """Bring all targets up to date; the number of rows, and of those whose scores were there."""
    shards = [shard for target in targets for shard in target.shards]
    recipe = screener.choices.recipe
    usable = _usable(screener, shards)
    screener.parts.mkdir(parents=True, exist_ok=True)
    rest = [shard for shard in shards if shard not in usable]
    num_rows = sum(shard.rows for shard in shards)
    num_kept = num_rows - sum(shard.rows for shard in rest)
    with tqdm(total=num_rows, initial=num_kept, desc="screen", unit="row", disable=None) as bar:
        for number in engine.run(_work(screener), rest):
            bar.update(number)
    for target in targets:
        parts = [Earlier(path=screener.part_of(shard), group=0, recipe=recipe) for shard in target.shards]
        scores = [usable.get(shard, part) for shard, part in zip(target.shards, parts, strict=True)]
        if scores != _scores_in(screener, target) or not target.path.exists():
            _write(target, scores, recipe, screener.parts)
    shutil.rmtree(screener.parts)
    return num_rows, num_kept


def _scores_in(screener: Screener, target: _Target) -> list[Earlier]:
    """The scores that a target's file has, in its order."""
    earlier = [scores for each in screener.earlier.values() for scores in each if scores.path == target.path]
    return sorted(earlier, key=lambda scores: scores.group)


def _usable(screener: Screener, shards: Sequence[ShardEntry]) -> dict[ShardEntry, Earlier]:
    """The scores that are as they are asked for."""
    recipe = screener.choices.recipe
    exact = {shard: [s for s in screener.earlier.get(shard, ()) if s.recipe == recipe] for shard in shards}
    return {shard: scores[0] for shard, scores in exact.items() if scores}


@dataclass(frozen=True)
class _Opened:
    """Opens a screener in a process."""

    screener: Screener

    def __call__(self, _: Progress) -> Callable[[ShardEntry], int]:
        return self.screener.screen


def _work(screener: Screener) -> Work[ShardEntry, int]:
    folder, asr = screener.folder, screener.choices.asr
    return Work(
        open=_Opened(screener),
        died=f"{folder.address}: a process that screened it died, killed or out of memory; run it again with "
        "fewer processes: shards that were screened are kept",
        name=lambda shard: f"{folder.address}: {shard.path}",
        paths=[str(screener.parts), *([folder.root] if folder.is_local else []), *([asr] if asr else [])],
    )


def _earlier(paths: Iterable[Path]) -> dict[ShardEntry, list[Earlier]]:
    """The scores of each shard that some files have; none of a broken file, or of another version."""
    earlier: dict[ShardEntry, list[Earlier]] = {}
    for path in paths:
        try:
            with pq.ParquetFile(path) as parquet:
                shards, recipe = from_metadata(parquet.schema_arrow)
                sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        except (OSError, ValueError, pa.ArrowException):
            continue
        if recipe.get("version") == VERSION and sizes == [shard.rows for shard in shards]:
            for group, shard in enumerate(shards):
                earlier.setdefault(shard, []).append(Earlier(path=path, group=group, recipe=recipe))
    return earlier


def _write(target: _Target, scores: Sequence[Earlier], recipe: Mapping[str, Any], parts: Path) -> None:
    """Write a file of scores anew from what is there and from parts: whole, or not at all."""
    target.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = parts / target.path.name
    schema = SCHEMA.with_metadata(to_metadata(target.shards, recipe))
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for each in scores:
            table = each.read()
            writer.write_table(table.cast(schema), row_group_size=max(len(table), 1))
    sync(temporary)
    temporary.replace(target.path)
