"""A loader of conversations: the loader of rows, with a plan of whole conversations and a view's collator."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import TypeVar

import torch
from transformers import PreTrainedTokenizerFast

from speechrows.conversations.turns import TURN_TASKS
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.loader.loader import Loader
from speechrows.loader.open_stream import checked_device
from speechrows.loader.open_stream import stream_opener
from speechrows.loader.opened_folder import OpenedFolder
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.read.notes import with_notes
from speechrows.loader.read.remote import WINDOW_BYTES
from speechrows.loader.read.rowgroup import ReadRowGroups
from speechrows.loader.read.rowgroup import read_row_groups
from speechrows.views.conversations import COLUMNS
from speechrows.views.conversations import ConversationCollator

B = TypeVar("B")


class ConversationLoader(Loader[B]):
    """A `Loader` of a view's batches, `batch_size` conversations in each."""

    @property
    def changes(self) -> Counter[str]:
        """What was not taken as it was in the batches that this loader has made, counted by what was done."""
        assert isinstance(self._collator, ConversationCollator)
        return +self._collator.changes


def open_conversations(
    path: str | Path | OpenedFolder, config: str, split: str
) -> tuple[OpenedFolder, Index]:
    """Open the rows of a config as conversations.

    Raises:
        UsageError: no such rows, or their task's rows are no turns.
    """
    folder = path if isinstance(path, OpenedFolder) else OpenedFolder(path)
    index = folder.index(config, split)
    others = [task for task in index.facts if task not in TURN_TASKS]
    if others:
        raise UsageError(
            f"{index.folder.address}: rows of {', '.join(others)} are no turns with a clip each; expected a "
            f"config of {', '.join(TURN_TASKS)}. Build that, as `speechrows build BUILDER ttt`; "
            "these, with the speech of their answers, `speechrows export lhotse` writes"
        )
    return folder, index


def conversation_loader(  # noqa: PLR0913
    index: Index,
    tokenizer: PreTrainedTokenizerFast,
    collator: Callable[[torch.device], ConversationCollator[B]],
    *,
    batch_size: int | None = None,
    budget_seconds: float | None = None,
    micro_batches: int | None = None,
    too_long: Any = "error",
    shuffle: bool = True,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    num_threads: int = 2,
    prefetch: int = 4,
    window_bytes: int | None = None,
    cache_bytes: int | None = None,
    verify_checksums: bool = False,
    with_clips: bool = True,
    read: ReadRowGroups = read_row_groups,
) -> ConversationLoader[B]:
    """A loader whose batches `collator(device)` makes of whole conversations.

    Options are those of `speechrows.load`; `budget_seconds` counts seconds of clips, each conversation
    padded to the longest beside it. `shuffle=False` keeps the order of the files. A view that needs codes
    alone reads no clips: `with_clips=False`. `read` reads tokens and codes.

    Raises:
        UsageError: options that contradict each other.
    """
    device = checked_device(device)
    if window_bytes is None and shuffle and not index.folder.is_local:
        window_bytes = WINDOW_BYTES
    options = PlanOptions(
        mode="conversations",
        batch_size=batch_size,
        budget_seconds=budget_seconds,
        micro_batches=world_size if micro_batches is None else micro_batches,
        too_long=too_long,
        shuffle=shuffle,
        seed=seed,
        window_bytes=window_bytes,
    )
    open_stream = stream_opener(
        index,
        device,
        read=with_notes(COLUMNS, read),
        window_bytes=window_bytes,
        cache_bytes=cache_bytes,
        num_threads=num_threads,
        prefetch=prefetch,
        verify_checksums=verify_checksums,
        with_clips=with_clips,
    )
    return ConversationLoader(
        index,
        options,
        open_stream,
        collator(device),
        tokenizer,
        rank=rank,
        world_size=world_size,
        any_micro_batches=micro_batches is None,
    )
