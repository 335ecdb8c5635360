"""Where everything lies in a built folder, which is also the Hub repository."""

CARD = "README.md"
SKIPPED = "skipped.jsonl"
TOKENIZER = "tokenizer"
STATE = ".build"  # never published


def shard_folder(task: str, split: str, band: int | None) -> str:
    """The folder of a task's shards; a band of its own only where the task has bands."""
    return f"data/{task}/{split}" + ("" if band is None else f"/band_{band}")


def shard_path(task: str, split: str, band: int | None, number: int) -> str:
    """The parquet file that shard `number` writes for a split and band."""
    return f"{shard_folder(task, split, band)}/{number:05d}.parquet"


def index_path(task: str, split: str) -> str:
    """The index of a task and split: a line a row, in file order."""
    return f"index/{task}/{split}.parquet"
