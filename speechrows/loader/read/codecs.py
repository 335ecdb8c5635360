"""Which codec the targets of rows are of, as the first row group of each task says."""

from collections.abc import Mapping

from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.read.rowgroup import read_columns
from speechrows.rows.tasks import TASKS

_WITH_CODES = {name for name, task in TASKS.items() if task.codec_targets and task.needs != "units"}


def codecs_of(index: IndexedRows) -> list[str | None]:
    """The codec of each shard's rows: that of its task, None without targets.

    Units are no targets: where a task needs them, they are spelt in its text.
    """
    firsts = {shard.task: number for number, shard in reversed([*enumerate(index.shards)])}
    codecs: dict[str, str | None] = {}
    for task in index.facts:
        if task in _WITH_CODES and task in firsts:
            names = read_columns(index, firsts[task], [0], ("codec",))["codec"].to_pylist()
            codecs[task] = next((name for name in names if name), None)
    return [codecs.get(shard.task) for shard in index.shards]


def several(owners: Mapping[str, str]) -> str:
    """That there are several codecs, in words: each, and a source or task whose rows have it."""
    pairs = [f"{codec} in {owner}" for codec, owner in owners.items()]
    return f"found codes of several codecs: {', '.join(pairs)}"
