"""Where everything lies in a built folder, which is also the Hub repository."""

import re

from speechrows.rows.tasks import TASKS

CARD = "README.md"
SKIPPED = "skipped.jsonl"
TOKENIZER = "tokenizer"
PICTURES = "assets"  # the folder of a task's pictures is below it
STATE = ".build"  # never published
RECIPE = f"{STATE}/recipe.json"  # which builder, and which tasks, from the start of a build on

# What transformers saves of a fast tokenizer. Nothing else in that folder is read or published, least of
# all code.
_TOKENIZER = (
    r"tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json"
    r"|chat_template\.jinja|additional_chat_templates/[\w-]+\.jinja"
    r"|vocab\.json|merges\.txt|vocab\.txt|(tokenizer|spiece|sentencepiece\.bpe)\.model"
)
_TASK, _SPLIT = f"({'|'.join(TASKS)})", r"\w+(\.\w+)*"
_FOLDER = rf"data/{_TASK}/{_SPLIT}(/band_[0-9]+)?"
_SHARD = re.compile(rf"{_FOLDER}/([\w.-]+-)?[0-9]{{5,}}\.parquet")  # a number alone in folders of 0.1.0
_SHARDS = re.compile(rf"{_FOLDER}/[^/]+")
_OTHERS = re.compile(
    rf"(index|screen)/{_TASK}/{_SPLIT}\.parquet|{re.escape(SKIPPED)}|{PICTURES}/{_TASK}/\w+\.png"
    rf"|{TOKENIZER}/({_TOKENIZER})"
)


def is_built(path: str) -> bool:
    """True for a path where builds write their files; not for the card, which is a person's too."""
    return is_shard(path) or _OTHERS.fullmatch(path) is not None


def is_shard(path: str) -> bool:
    """True for a path where builds write rows."""
    return _SHARD.fullmatch(path) is not None


def is_pattern_of_shards(pattern: str) -> bool:
    """True for a pattern of a card that lists shards of one task, split and band, whichever these are."""
    return _SHARDS.fullmatch(pattern) is not None and "**" not in pattern


def shard_folder(task: str, split: str, band: int | None) -> str:
    """The folder of a task's shards; a band of its own only where the task has bands."""
    return f"data/{task}/{split}" + ("" if band is None else f"/band_{band}")


def shard_path(task: str, split: str, band: int | None, number: int) -> str:
    """The parquet file that shard `number` writes for a split and band.

    Its name is no other's in the folder: NeMo names clips by their file's stem and their row.
    """
    parts = [task, split, *([] if band is None else [str(band)]), f"{number:05d}"]
    return f"{shard_folder(task, split, band)}/{'-'.join(parts)}.parquet"


def index_path(task: str, split: str) -> str:
    """The index of a task and split: a line a row, in file order."""
    return f"index/{task}/{split}.parquet"


def screen_path(task: str, split: str) -> str:
    """The scores of a task and split, which `speechrows screen` writes: a line a row, as in the index."""
    return f"screen/{task}/{split}.parquet"
