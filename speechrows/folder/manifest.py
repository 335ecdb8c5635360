"""The shards of a config: which there are, and whether they are the files that the index was made of."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.folder.layout import CARD
from speechrows.folder.rows_folder import RowsFolder
from speechrows.rows.tasks import TASKS
from speechrows.storage.parquet_file import footer_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedShard:
    """A parquet file of rows, and what its index was bound to when it was written."""

    path: str
    task: str
    num_rows: int
    size: int
    footer_sha256: str


def listed_shards(
    folder: RowsFolder, patterns: Sequence[str], split: str
) -> tuple[tuple[IndexedShard, ...], dict[str, Mapping[str, Any]]]:
    """The shards that match patterns `data/<task>/…`, in the order of their indexes; each task's facts."""
    tasks = list(dict.fromkeys(pattern.split("/")[1] for pattern in patterns))
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise UsageError(
            f"{folder.address}: its card lists {patterns[0]}; expected data/<task>/…, of a task of speechrows"
        )
    facts = {task: folder.index_facts(task, split) for task in tasks}
    shards = tuple(
        IndexedShard(
            path=path, task=task, num_rows=one["rows"], size=one["size"], footer_sha256=one["footer_sha256"]
        )
        for task in tasks
        for path, one in sorted(facts[task]["shards"].items())
        if any(fnmatchcase(path, pattern) for pattern in patterns)
    )
    return shards, facts


def check_shard(folder: RowsFolder, shard: IndexedShard) -> None:
    """See that a shard is the file that the index was made of; before any place in it is trusted.

    Raises:
        ShortfallError: it is not there, or another.
    """
    found = ""
    try:
        with folder.open_file(shard.path) as file:
            size = file.seek(0, 2)
            if size != shard.size:
                found = f"found {size} bytes, expected {shard.size}"
            elif footer_digest(file) != shard.footer_sha256:
                found = "found another footer"
    except FileNotFoundError:
        if not folder.has(CARD):  # none of it is seen any more: no word on the shard
            raise
        found = f"it is missing, expected {shard.num_rows} rows in it"
    if found:
        raise ShortfallError(
            f"{folder.address}: {shard.path} is not the file that its index was made of: {found}. "
            "It was changed, or is of another build; build or download the folder again"
        )
