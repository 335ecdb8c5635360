"""Whose rows a repository holds: publishing replaces a builder's own, and nobody else's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from speechrows.errors import UsageError
from speechrows.hub.publish.contents import is_ours
from speechrows.storage.parquet_file import parquet_of


def first_index(paths: Iterable[str]) -> str | None:
    """The index, among a folder's or repository's files, that `builder_of` is asked about."""
    return min((path for path in paths if path.startswith("index/") and is_ours(path)), default=None)


def builder_of(index: Any) -> str | None:
    """The builder whose rows an open index lists: their ids begin with it. None where it is no index."""
    try:
        with parquet_of(index) as file:
            batch = next(file.iter_batches(1, columns=["row_id"], use_threads=False))
            return batch["row_id"][0].as_py().partition("/")[0]
    except (pa.ArrowInvalid, KeyError):
        return None


def check_owner(
    repo_id: str, builder: str | None, there: Iterable[str], folder: Path, files: Iterable[str]
) -> None:
    """Refuse a repository with files where ours would lie, unless they are the same builder's.

    `builder` is whose rows its first index lists.

    Raises:
        UsageError: what it holds, what was to be published, what to do.
    """
    theirs = [path for path in there if is_ours(path)]
    if not theirs:
        return
    if builder is None:
        raise UsageError(
            f"{repo_id}: found {min(theirs)}, and no rows of speechrows: publishing would replace or delete "
            "such files. Give another repository, or move them away there"
        )
    with (folder / str(first_index(files))).open("rb") as index:
        mine = builder_of(index)
    if builder != mine:
        raise UsageError(
            f"{repo_id}: holds rows of {builder}, and {folder} those of {mine}: publishing would delete what "
            "is there. Give another repository"
        )
