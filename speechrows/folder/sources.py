"""Which rows are of one source, as far as an index tells: it has conversations' ids, and no domain."""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from speechrows.folder.manifest import ShardEntry
from speechrows.types import Int32


def sources(lines: Iterable[tuple[pa.RecordBatch, Int32]], shards: Sequence[ShardEntry]) -> Int32:
    """Number the source of each line of an index from 0, [R].

    A source is a task, and what stands before the last `/` of its conversation_id: the corpus, with its
    folder, variant or publisher's split. The lines come in batches of one task, with the number of the
    shard of each.
    """
    columns, numbers = [np.empty(0, np.int32)], dict[tuple[str, str], int]()
    for batch, shard in lines:
        ids: Any = pc.replace_substring_regex(batch["conversation_id"], pattern="/[^/]*$", replacement="")
        heads, task = ids.dictionary_encode(), shards[shard[0]].task
        known = [numbers.setdefault((task, head), len(numbers)) for head in heads.dictionary.to_pylist()]
        columns.append(np.array(known, np.int32)[heads.indices.to_numpy()])
    return np.concatenate(columns)
