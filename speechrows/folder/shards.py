"""The shards of a config: which the card lists, and whether one is the file that its index was made of."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from speechrows.errors import ShortfallError
from speechrows.folder.inside import check_pattern
from speechrows.folder.layout import CARD
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.manifest import TaskFacts
from speechrows.folder.rows_folder import RowsFolder
from speechrows.storage.parquet_file import footer_digest


def listed_shards(
    folder: RowsFolder, patterns: Sequence[str], split: str
) -> tuple[tuple[ShardEntry, ...], dict[str, TaskFacts]]:
    """The shards that match patterns `data/<task>/…`, in the order of their indexes; each task's facts.

    Raises:
        UsageError: a pattern lists anything but shards, or an index says nothing that can be read.
    """
    for pattern in patterns:
        check_pattern(pattern, folder.address)
    tasks = dict.fromkeys(pattern.split("/")[1] for pattern in patterns)
    facts = {task: folder.index_facts(task, split) for task in tasks}
    shards = [
        shard
        for task in tasks
        for shard in facts[task].shards
        if any(fnmatchcase(shard.path, pattern) for pattern in patterns)
    ]
    return tuple(shards), facts


def check_shard(folder: RowsFolder, shard: ShardEntry) -> None:
    """Check that a shard is the file that the index was made of, by its size and its footer.

    Raises:
        ShortfallError: it is not there, or another.
    """
    fault = ""
    try:
        with folder.open_file(shard.path) as file:
            size = file.seek(0, 2)
            if size != shard.size:
                fault = f"found {size} bytes, expected {shard.size}"
            elif footer_digest(file) != shard.footer_sha256:
                fault = "found another footer, expected the one that it was written with"
    except FileNotFoundError:
        if not folder.has(CARD):  # the folder itself is gone: nothing is known of the shard
            raise
        fault = f"it is missing, expected {shard.rows} rows in it"
    if fault:
        raise ShortfallError(
            f"{folder.address}: {shard.path} is not the file that its index was made of: {fault}. "
            "It was changed, or is of another build; build or download the folder again"
        )
