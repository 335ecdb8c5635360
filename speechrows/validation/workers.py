"""Shards checked in several processes, their results in the order of the shards."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial

from transformers import PreTrainedTokenizerFast

from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.workers import in_order
from speechrows.validation.shard import CheckedShard
from speechrows.validation.shard import ShardChecker
from speechrows.validation.shard import ShardOfSplit


def checked(
    folder: RowsFolder, tokenizer: PreTrainedTokenizerFast, shards: Sequence[ShardOfSplit], num_proc: int
) -> Iterator[CheckedShard]:
    """Check shards; yields what was found, in their order.

    Raises:
        SpeechRowsError: a process died.
    """
    died = (
        f"{folder.address}: a process that checked it died, killed or out of memory; run it again with "
        "fewer processes"
    )
    return in_order(partial(_open_checker, folder, tokenizer), shards, num_proc, died)


def _open_checker(
    folder: RowsFolder, tokenizer: PreTrainedTokenizerFast
) -> Callable[[ShardOfSplit], CheckedShard]:
    return ShardChecker(folder, tokenizer).check
