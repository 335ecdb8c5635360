"""`speechrows screen`: scores every row of a folder, shard by shard, and keeps what is there.

Scores lie in the folder, a file a task and split (layout.screen_path), or in one file of one's own. Parts of
an unfinished run wait beside them. Shards whose scores are there, made the same way, are not heard again.
"""

import contextlib
import shutil
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
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
from speechrows.folder.workers import in_order
from speechrows.screening.report import ScreenReport
from speechrows.screening.shard import Choices
from speechrows.screening.shard import Screener
from speechrows.storage.card_head import parse_head
from speechrows.storage.disk import sync


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
    num_proc: int = 1,
    num_worst: int = 20,
    tell: Tell = str,
) -> ScreenReport:
    """Score every row of a built folder, or of a Hub dataset, whose scores need an `out` of their own.

    `languages` are codes, by default the card's; `asr` is a folder with a model of faster-whisper. With more
    than one process, a script has to guard its own start by `if __name__ == "__main__"`. The scores depend
    neither on the number of processes nor on how often it was stopped.

    Raises:
        UsageError: nothing that speechrows built is there, or it is not on this machine, without an `out`.
        ShortfallError: a shard is damaged.
    """
    if num_proc < 1:
        raise UsageError(f"--num-proc: found {num_proc}, expected at least 1")
    if out is not None and (out.suffix != ".parquet" or out.is_dir()):
        raise UsageError(f"--out {out}: expected the name of a file that ends with .parquet")
    folder = RowsFolder.open(address)
    if out is None and not folder.is_local:
        raise UsageError(f"{address}: is not on this machine; say where its scores go: --out FILE.parquet")
    choices = Choices(languages=tuple(languages) or languages_of(folder), asr=asr)
    with contextlib.ExitStack() as stack:
        if folder.is_local:
            stack.enter_context(held(Path(folder.root), tell))
        targets = _targets(folder, out)
        parts = out.with_name(f".{out.name}.parts") if out else Path(folder.root) / STATE / "screen"
        screener = Screener(folder, choices, parts)
        num_rows, num_kept = _screen(screener, targets, num_proc)
        return ScreenReport.of(
            folder.address, [target.path for target in targets], num_rows, num_kept, num_worst
        )


def languages_of(folder: RowsFolder) -> tuple[str, ...]:
    """The codes of languages that a folder's card tells; none where it tells none."""
    if not folder.has(CARD):
        return ()
    with folder.naming(CARD), folder.open_file(CARD) as file:
        language: Any = parse_head(file.read().decode("utf-8")).get("language")
    codes: list[Any] = language if isinstance(language, list) else [language]
    return tuple(code for code in codes if isinstance(code, str))


def _targets(folder: RowsFolder, out: Path | None) -> list[_Target]:
    shards = {split: folder.index_facts(*split).shards for split in folder.splits()}
    if out is not None:
        return [_Target(path=out, shards=tuple(shard for each in shards.values() for shard in each))]
    root = Path(folder.root)
    return [_Target(path=root / screen_path(*split), shards=each) for split, each in shards.items()]


def _screen(screener: Screener, targets: Sequence[_Target], num_proc: int) -> tuple[int, int]:
    """Bring all targets up to date; the number of rows, and of those whose scores were there."""
    recipe = screener.choices.recipe
    earlier = {target.path: _earlier(target.path, recipe) for target in targets}
    screener.parts.mkdir(parents=True, exist_ok=True)
    rest = [
        shard
        for target in targets
        for shard in target.shards
        if shard not in earlier[target.path] and not screener.part_of(shard).exists()
    ]
    num_rows = sum(shard.rows for target in targets for shard in target.shards)
    num_kept = num_rows - sum(shard.rows for shard in rest)
    died = (
        f"{screener.folder.address}: a process that screened it died, killed or out of memory; run it again "
    )
    died += "with fewer processes: shards that were screened are kept"
    with tqdm(total=num_rows, initial=num_kept, desc="screen", unit="row", disable=None) as bar:
        for number in in_order(_Opened(screener), rest, num_proc, died):
            bar.update(number)
    for target in targets:
        if [*earlier[target.path]] != [*target.shards]:
            _write(screener, target, earlier[target.path], recipe)
    shutil.rmtree(screener.parts)
    return num_rows, num_kept


@dataclass(frozen=True)
class _Opened:
    """Opens a screener in a process."""

    screener: Screener

    def __call__(self) -> Callable[[ShardEntry], int]:
        return self.screener.screen


def _earlier(path: Path, recipe: dict[str, Any]) -> dict[ShardEntry, int]:
    """The shards whose scores a file has, made the same way, by row group; none of a broken file."""
    try:
        with pq.ParquetFile(path) as parquet:
            shards, theirs = from_metadata(parquet.schema_arrow)
            sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    except (OSError, ValueError, pa.ArrowException):
        return {}
    if theirs != recipe or sizes != [shard.rows for shard in shards]:
        return {}
    return {shard: group for group, shard in enumerate(shards)}


def _write(
    screener: Screener, target: _Target, earlier: dict[ShardEntry, int], recipe: dict[str, Any]
) -> None:
    """Write a file of scores anew from what is there and from parts: whole, or not at all."""
    target.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = screener.parts / target.path.name
    schema = SCHEMA.with_metadata(to_metadata(target.shards, recipe))
    with contextlib.ExitStack() as stack:
        before = stack.enter_context(pq.ParquetFile(target.path)) if earlier else None
        writer = stack.enter_context(pq.ParquetWriter(temporary, schema, compression="zstd"))
        for shard in target.shards:
            if before is not None and shard in earlier:
                table = before.read_row_group(earlier[shard], use_threads=False)
            else:
                table = pq.read_table(screener.part_of(shard), use_threads=False)
            writer.write_table(table.cast(schema), row_group_size=max(len(table), 1))
    sync(temporary)
    temporary.replace(target.path)
