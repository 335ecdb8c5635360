"""How many `<audio>` placeholders rows have, in bulk: the arithmetic of codec.num_audio_tokens on arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from speechrows.folder.indexed_rows import IndexedRows
from speechrows.rows.tasks import TASKS
from speechrows.types import AUDIO_TOKEN
from speechrows.types import PROMPT
from speechrows.types import Int32

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Placeholders:
    """The rate of each shard of an index as a fraction, `tokens` [shards] in `seconds` [shards].

    0 where the text of the shard's task has no `<audio>`: its rows' clips are not heard.
    """

    index: IndexedRows
    tokens: Int64
    seconds: Int64

    @staticmethod
    def of(index: IndexedRows) -> "Placeholders":
        """At the rates that the index tells."""
        rates = {
            task: rate * any(mark in TASKS[task].segments[0].text for mark in (AUDIO_TOKEN, PROMPT))
            for task, rate in index.audio_tokens_per_second.items()
        }
        shards = [rates[shard.task] for shard in index.shards]
        tokens = np.array([rate.numerator for rate in shards], np.int64)
        return Placeholders(index, tokens, np.array([rate.denominator for rate in shards], np.int64))

    def count(self, rows: npt.NDArray[Any] | slice) -> Int32:
        """The placeholders of each of some rows, int32 [R]."""
        shard = self.index.shard[rows]
        tokens = self.index.num_samples[rows] * self.tokens[shard]
        return (-(-tokens // (self.index.sampling_rate[rows] * self.seconds[shard]))).astype(np.int32)
