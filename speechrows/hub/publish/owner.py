"""Which builder's rows a repository holds: publishing replaces the same builder's, and no others."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from speechrows.errors import UsageError
from speechrows.folder.layout import is_built
from speechrows.storage.parquet_file import parquet_of


def first_index(paths: Iterable[str]) -> str | None:
    """Return the first index among a folder's or repository's files, to give to `builder_of`."""
    return min((path for path in paths if path.startswith("index/") and is_built(path)), default=None)


def builder_of(index: Any) -> str | None:
    """Return the builder whose rows an open index lists, as their ids begin; None if it is no index."""
    try:
        with parquet_of(index) as file:
            batch = next(file.iter_batches(1, columns=["row_id"], use_threads=False))
            return batch["row_id"][0].as_py().partition("/")[0]
    except (pa.ArrowInvalid, KeyError):
        return None


def check_owner(
    repo_id: str, builder: str | None, remote: Iterable[str], folder: Path, files: Iterable[str]
) -> None:
    """Refuse a repository that has files where ours would lie, unless they are the same builder's.

    `remote` are its paths, and `builder` is whose rows its first index lists; `files` are the folder's.

    Raises:
        UsageError: what it holds, what was to be published, what to do.
    """
    replaced = [path for path in remote if is_built(path)]
    if not replaced:
        return
    if builder is None:
        raise UsageError(
            f"{repo_id}: found {min(replaced)}, and no rows of speechrows: publishing would replace or "
            "delete such files. Give another repository, or move them away there"
        )
    with (folder / str(first_index(files))).open("rb") as index:
        local_builder = builder_of(index)
    if builder != local_builder:
        raise UsageError(
            f"{repo_id}: holds rows of {builder}, and {folder} those of {local_builder}: publishing would "
            "delete what is there. Give another repository"
        )
