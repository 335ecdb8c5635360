"""The example row of the card: the first of a shard, with its label mask, read without its audio."""

from contextlib import AbstractContextManager
from typing import Any

import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerFast

from speechrows.folder.show import to_text
from speechrows.rows import schema

_LONGEST = 3000  # characters: rows of units have thousands of tokens


def example(shard: AbstractContextManager[pq.ParquetFile], tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the first row of a shard, which is opened, as text; ⟦ ⟧ is around what takes loss."""
    columns = [f"{name}.path" if name in schema.AUDIO_COLUMNS else name for name in schema.FEATURES]
    with shard as file:
        batches = file.iter_batches(1, row_groups=[0], columns=columns, use_threads=False)
        values: dict[str, Any] = next(iter(batches)).to_pylist()[0]
    row = dict[str, Any]()
    for name, value in values.items():
        is_audio = name in schema.AUDIO_COLUMNS
        row[f"{name}.path" if is_audio else name] = value["path"] if is_audio and value else value
    text = to_text(row, tokenizer, colour=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
