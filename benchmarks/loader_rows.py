"""Rows as they go into the formats of peers, and come out of them as batches."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Item = dict[str, Any]
WAV_HEAD = 44


def rows_of(folder: str) -> Iterator[Item]:
    """The rows of a built folder, in file order: row_id, audio, input_ids, labels, transcript."""
    import pyarrow.parquet as pq

    columns = ["row_id", "audio", "input_ids", "labels", "num_tokens", "transcript"]
    for path in sorted(Path(folder).rglob("data/**/*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(256, columns=columns):
            for row in batch.to_pylist():
                tokens = {name: row[name][: row["num_tokens"]] for name in ("input_ids", "labels")}
                yield {**row, **tokens, "audio": row["audio"]["bytes"]}


def as_arrays(row: Item) -> Item:
    """A row with its tokens as arrays."""
    import numpy as np

    tokens = {name: np.array(row[name], np.int32) for name in ("input_ids", "labels")}
    return {"row_id": row["row_id"], "audio": row["audio"], **tokens}


def collate(items: list[Item]) -> Item:
    """Audio decoded by soundfile and padded, float32 [B, S]; tokens and labels padded, [B, T]."""
    import soundfile
    import torch

    waves = [
        torch.from_numpy(soundfile.read(io.BytesIO(item["audio"]), dtype="float32")[0]) for item in items
    ]
    return joined(items, waves, pad=True)


def collate_int16(items: list[Item]) -> Item:
    """Audio as it lies in the WAV, int16 [S]; tokens and labels one after another."""
    import numpy as np
    import torch

    waves = [torch.from_numpy(np.frombuffer(item["audio"], "<i2", offset=WAV_HEAD).copy()) for item in items]
    return joined(items, waves, pad=False)


def joined(items: list[Item], waves: list[Any], *, pad: bool) -> Item:
    import torch

    join = (lambda parts: torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)) if pad else torch.cat
    tokens = {name: join([torch.as_tensor(item[name]) for item in items]) for name in ("input_ids", "labels")}
    ids, lengths = [item["row_id"] for item in items], [len(wave) for wave in waves]
    return {"speech": join(waves), "num_samples": lengths, "row_id": ids, **tokens}
