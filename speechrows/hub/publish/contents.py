"""Which files of a built folder are published, and which files of a repository are such files."""

import re
from pathlib import Path

from speechrows.card.card import PICTURES
from speechrows.errors import UsageError
from speechrows.folder.layout import CARD
from speechrows.folder.layout import SKIPPED
from speechrows.folder.layout import TOKENIZER
from speechrows.folder.layout import index_path
from speechrows.folder.rows_folder import RowsFolder
from speechrows.rows.tasks import TASKS

_TASK = f"({'|'.join(TASKS)})"
_OURS = re.compile(
    rf"data/{_TASK}/[^/]+/(band_\d+/)?\d{{5,}}\.parquet|index/{_TASK}/[^/]+\.parquet|{TOKENIZER}/.+"
    rf"|{re.escape(SKIPPED)}|{PICTURES}/{_TASK}/[^/]+\.png"
)


def is_ours(path: str) -> bool:
    """True for a path where builds write their files; not for the card, which is a person's too."""
    return _OURS.fullmatch(path) is not None


def published_files(folder: Path) -> dict[str, int]:
    """Return path and bytes of each file of a built folder that is published, the card last.

    Only what the indexes name is: no state of the build, no script, nothing a person put there.

    Raises:
        UsageError: nothing is built there, or its build was stopped before the end.
    """
    if not folder.is_dir():  # a name of the Hub, too, would be opened
        raise UsageError(f"{folder}: no such folder; expected one that `speechrows build` wrote")
    rows = RowsFolder.open(str(folder))
    shards = dict[str, int]()
    for task, split in rows.splits():
        shards |= {shard.path: shard.size for shard in rows.index_facts(task, split).shards}
    for path, size in shards.items():
        num_bytes = (folder / path).stat().st_size if (folder / path).is_file() else None
        if num_bytes != size:
            raise UsageError(f"{folder / path}: found {num_bytes} bytes, its index says {size}; {_AGAIN}")
    listed = [path for splits in rows.configs().values() for paths in splits.values() for path in paths]
    if {path.rpartition("/")[0] for path in listed} != {path.rpartition("/")[0] for path in shards}:
        raise UsageError(f"{folder / CARD}: does not list what the indexes do; {_AGAIN}")
    others = [index_path(task, split) for task, split in rows.splits()]
    others += [_relative(path, folder) for path in (folder / TOKENIZER).rglob("*") if path.is_file()]
    others += [_relative(path, folder) for path in (folder / PICTURES).glob("*/*.png")]
    others += [SKIPPED] if (folder / SKIPPED).is_file() else []
    sizes = {path: (folder / path).stat().st_size for path in [*others, CARD]}
    return {path: {**shards, **sizes}[path] for path in [*sorted([*shards, *others]), CARD]}


_AGAIN = "its build was stopped before the end, or the folder was changed. Run the same build again"


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
