"""What the order of an epoch is worth: nothing lost or doubled, and batches like the whole."""

import statistics
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq


def mixing(names: list[list[str]], values: dict[str, float]) -> float:
    """The variance of batch means of a property of rows, by that of batches drawn at random."""
    mean = statistics.fmean(values.values())
    variance = statistics.pvariance(values.values(), mean)
    off = [(statistics.fmean(values[name] for name in batch) - mean) ** 2 * len(batch) for batch in names]
    finite = 1 - statistics.fmean(len(batch) for batch in names) / len(values)
    return statistics.fmean(off) / variance / finite


def properties(rows: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Of each row by name: its topic (rows lie topic after topic) and its conversation's speaker."""
    index = pq.read_table(rows / "index/ttt/train.parquet", columns=["row_id", "conversation_id"]).to_pydict()
    conversations = list(dict.fromkeys(index["conversation_id"]))
    topics = sorted({conversation.split("/")[-1].split("_")[0] for conversation in conversations})
    topic = {name: float(topics.index(name.split("/")[-1].split("_")[0])) for name in conversations}
    speaker = {conversation: float(number * 7919 % 101) for number, conversation in enumerate(conversations)}
    pairs = list(zip(index["row_id"], index["conversation_id"], strict=True))
    return {row: topic[name] for row, name in pairs}, {row: speaker[name] for row, name in pairs}


def lost_and_doubled(batches: list[list[str]], all_rows: dict[str, float]) -> tuple[int, int]:
    """How many rows came in no batch, and how many came again."""
    seen = Counter(name for batch in batches for name in batch)
    return len(all_rows.keys() - seen.keys()), sum(count - 1 for count in seen.values())
