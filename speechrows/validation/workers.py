"""Shards checked by workers, their results in the order of the shards."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial

from transformers import PreTrainedTokenizerFast

from speechrows.folder.rows_folder import RowsFolder
from speechrows.validation.shard import CheckedShard
from speechrows.validation.shard import ShardChecker
from speechrows.validation.shard import ShardOfSplit
from speechrows.workers.work import Engine
from speechrows.workers.work import Progress
from speechrows.workers.work import Work


def checked(
    folder: RowsFolder, tokenizer: PreTrainedTokenizerFast, shards: Sequence[ShardOfSplit], engine: Engine
) -> Iterator[CheckedShard]:
    """Check shards; yields what was found, in their order.

    Raises:
        SpeechRowsError: a process died.
    """
    died = (
        f"{folder.address}: a process that checked it died, killed or out of memory; run it again with "
        "fewer processes"
    )
    work = Work[ShardOfSplit, CheckedShard](
        open=partial(_open_checker, folder, tokenizer),
        died=died,
        name=lambda shard: f"{folder.address}: {shard.entry.path}",
        paths=(folder.root,) if folder.is_local else (),
    )
    return engine.run(work, shards)


def _open_checker(
    folder: RowsFolder, tokenizer: PreTrainedTokenizerFast, _: Progress
) -> Callable[[ShardOfSplit], CheckedShard]:
    return ShardChecker(folder, tokenizer).check
