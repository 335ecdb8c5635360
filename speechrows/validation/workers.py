"""Shards checked in several processes, their results in the order of the shards."""

import multiprocessing
import os
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from transformers import PreTrainedTokenizerFast

from speechrows.console import ending_workers
from speechrows.console import starting_workers
from speechrows.errors import SpeechRowsError
from speechrows.folder.rows_folder import RowsFolder
from speechrows.validation.shard import CheckedShard
from speechrows.validation.shard import ShardChecker
from speechrows.validation.shard import ShardOfSplit

_checkers: list[ShardChecker] = []  # of a worker: one


def checked(
    folder: RowsFolder, tokenizer: PreTrainedTokenizerFast, shards: Sequence[ShardOfSplit], num_proc: int
) -> Iterator[CheckedShard]:
    """Check shards; yields what was found, in their order.

    Raises:
        SpeechRowsError: a process died.
    """
    num_proc = min(num_proc, len(shards))
    if num_proc <= 1:
        yield from map(ShardChecker(folder, tokenizer).check, shards)
        return
    # Spawned, not forked: threads of the tokenizer and of stores do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_proc, context, _begin, (folder, tokenizer))
    try:
        with ending_workers():
            with starting_workers():
                checks = [pool.submit(_check, shard) for shard in shards]
            for future in checks:  # pool.map would cancel what is left, over which an ended pool stumbles
                yield future.result()
    except BrokenProcessPool as error:
        raise SpeechRowsError(
            f"{folder.address}: a process that checked it died, killed or out of memory; run it again with "
            "fewer processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(folder: RowsFolder, tokenizer: PreTrainedTokenizerFast) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the cores
    _checkers.append(ShardChecker(folder, tokenizer))


def _check(shard: ShardOfSplit) -> CheckedShard:
    return _checkers[0].check(shard)
