"""Which files of a built folder are published, and which files of a repository are such files."""

from pathlib import Path

import pyarrow.compute as pc

from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.folder.layout import CARD
from speechrows.folder.layout import PICTURES
from speechrows.folder.layout import SKIPPED
from speechrows.folder.layout import index_path
from speechrows.folder.layout import is_shard
from speechrows.folder.layout import screen_path
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.scores import is_screened
from speechrows.folder.shards import check_shard
from speechrows.rows.schema import ARROW_SCHEMA
from speechrows.rows.schema import AUDIO_COLUMNS


def published_files(folder: Path) -> dict[str, int]:
    """Return path and bytes of each file of a built folder that is published, the card last.

    Only what the indexes name and builds write: no state of the build, no script, nothing a person put
    there, and nothing that lies outside the folder.

    Raises:
        UsageError: nothing is built there, its build was stopped before the end, or it names other files.
    """
    if not folder.is_dir():  # a name of the Hub, too, would be opened
        raise UsageError(f"{folder}: no such folder; expected one that `speechrows build` wrote")
    rows = RowsFolder.open(str(folder))
    shards = dict[str, int]()
    for task, split in rows.splits():
        for shard in rows.index_facts(task, split).shards:
            try:
                check_shard(rows, shard)
            except ShortfallError as error:
                raise UsageError(f"{error}; {_AGAIN}") from error
            shards[shard.path] = shard.size
    listed = [path for splits in rows.configs().values() for paths in splits.values() for path in paths]
    if {path.rpartition("/")[0] for path in listed} != {path.rpartition("/")[0] for path in shards}:
        raise UsageError(f"{folder / CARD}: does not list what the indexes do; {_AGAIN}")
    others = [index_path(task, split) for task, split in rows.splits()]
    others += [screen_path(task, split) for task, split in rows.splits() if is_screened(rows, task, split)]
    others += rows.tokenizer_files() + rows.glob(f"{PICTURES}/*/*.png") + rows.glob(SKIPPED)
    sizes = {path: Path(rows.place(path)).stat().st_size for path in [*others, CARD]}
    return {path: {**shards, **sizes}[path] for path in [*sorted([*shards, *others]), CARD]}


def check_clips(folder: Path, path: str) -> None:
    """Check that clips of a shard are bytes: a name alone would make readers open a file of their own.

    Raises:
        UsageError: one is not.
    """
    if not is_shard(path):
        return
    with RowsFolder.open(str(folder)).open_parquet(path) as shard:
        if not shard.schema_arrow.equals(ARROW_SCHEMA):
            raise UsageError(f"{folder / path}: has other columns than rows have; {_AGAIN}")
        for group in range(shard.num_row_groups):
            columns = shard.read_row_group(group, [*AUDIO_COLUMNS], use_threads=False)
            for name in AUDIO_COLUMNS:
                cells = columns[name]
                if pc.any(pc.and_(cells.is_valid(), pc.struct_field(cells, "bytes").is_null())).as_py():
                    raise UsageError(
                        f"{folder / path}: found a {name} that names a file and has no bytes; {_AGAIN}"
                    )


_AGAIN = "its build was stopped before the end, or the folder was changed. Run the same build again"
