"""`speechrows.load_interleaved`: conversations as streams of text and codes, side by side or in turn.

The function is longer than 40 lines: every option of the view is described in this one place.
"""

import math
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from speechrows.conversations.patterns import Pattern
from speechrows.conversations.patterns import Ratio
from speechrows.conversations.patterns import pattern_of
from speechrows.conversations.streams import StreamIds
from speechrows.conversations.words import Aligner
from speechrows.conversations.words import Proportional
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.loader.opened_folder import OpenedFolder
from speechrows.loader.plan.values import TooLong
from speechrows.loader.read.row_codes import RowCodes
from speechrows.loader.read.row_codes import how_to_make
from speechrows.loader.read.rowgroup import read_row_groups
from speechrows.rows.tasks import TASKS
from speechrows.types import Role
from speechrows.views.conversations import ConversationCollator
from speechrows.views.loader import ConversationLoader
from speechrows.views.loader import conversation_loader
from speechrows.views.loader import open_conversations
from speechrows.views.sequences import SequencesMaker
from speechrows.views.streams import SIDES
from speechrows.views.streams import StreamsMaker
from speechrows.views.text_ids import TextIds
from speechrows.views.text_ids import TextTokenizer
from speechrows.views.text_ids import text_tokenizer


def load_interleaved(  # noqa: PLR0913
    path: str | Path | OpenedFolder,
    config: str,
    split: str = "train",
    *,
    codes: str | Path | Sequence[str | Path] | None = None,
    codec: str | None = None,
    pattern: Pattern | str = "moshi",
    tokenizer: TextTokenizer | str | Path | None = None,
    ids: StreamIds | None = None,
    silence: Sequence[int] | None = None,
    text_roles: Sequence[Role] = ("assistant",),
    keep_all_text: bool = False,
    aligner: Aligner | None = None,
    gap: float = 0.2,
    batch_size: int | None = None,
    budget_seconds: float | None = None,
    micro_batches: int | None = None,
    too_long: TooLong = "error",
    shuffle: bool = True,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    num_threads: int = 2,
    prefetch: int = 4,
    window_bytes: int | None = None,
    verify_checksums: bool = False,
) -> ConversationLoader[Any]:
    """A loader of conversations as text and codes, of both sides; clips are not read.

    Args:
        path: a built folder, a Hub dataset `org/name`, or an OpenedFolder.
        config: one whose rows are turns: ttt, a stage, or s2s_mimi, whose rows have codes.
        split: as in the card.
        codes: what `speechrows generate mimi --source FOLDER --out CODES` wrote, CODES, or a table of
            clip_id and codes of one's own; needed where rows have no codes. Each clip's stand from the frame
            on in which it begins.
        codec: that of a table of one's own: mimi, glm_4_voice, cosyvoice2…
        pattern: how ids stand, a `Parallel` or `Ratio` of speechrows.conversations.patterns, or a name:
            "moshi": a `StreamsBatch` with `codes` int64 [B, 17, F] (text, 8 codebooks of the assistant, 8 of
            the user), what moshi's LMModel and moshi-finetune's trainer take: the model delays them itself;
            "moshi_delayed": the same, delayed as that model does, [B, 17, F + 1];
            "glm_4_voice" (13 ids of text to 26 of speech), "llama_omni2" (3 to 10): a `SequencesBatch` with
            `input_ids` and `labels` int64 [B, T], answers supervised.
        tokenizer: of the text: a name or folder, a sentencepiece `….model` such as Moshi's, or either, open;
            the folder's own without one.
        ids: of streams, those that are neither words nor codes. Without them Moshi's (padding 3, end of
            padding 0) for a tokenizer in which no word has these, as its own; else three behind the
            tokenizer's: padding, end of padding, text's initial.
        silence: the codes of a frame in which a side says nothing, one a codebook. Without it, of Mimi,
            those of silence under kyutai/mimi's weights, so that a model learns to be silent too; give
            `(-1,) * 8`, of no input and no loss, to leave such frames out. Of other codecs, -1.
        text_roles: whose words stand in the text stream; moshi-finetune trains on the assistant's alone.
        keep_all_text: a word waits until the one before is said; else it takes the place of what is not,
            as in moshi-finetune, and what is lost is counted in `loader.changes`.
        aligner: says when words are said; a turn comes without its clip. Without one, by their letters.
        gap: seconds before a turn whose row does not tell when it begins, after all before it.
        batch_size: conversations in a batch, at most.
        budget_seconds: of clips in a batch, each conversation as long as the longest beside it.
        micro_batches: as in `speechrows.load`, as the others below are.
        too_long: what becomes of a conversation that is over the budget.
        shuffle: the same random order in every run of an epoch; False keeps that of the files.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes.
        device: where tensors are.
        num_threads: that read ahead.
        prefetch: batches that are read ahead.
        window_bytes: of a remote folder, what is shuffled at once.
        verify_checksums: of every page, before the first of its rows is used.

    Raises:
        UsageError: no such rows or pattern, no codes of a side, or options that contradict each other. While
            batches are made, also a conversation that has no codes, or a turn that begins before 0.
    """
    if not 0 <= gap < math.inf:
        raise UsageError(f"gap: found {gap}, expected seconds from 0 on")
    if isinstance(text_roles, str) or not {*text_roles} <= {*SIDES}:
        raise UsageError(
            f"text_roles: found {text_roles!r:.80}, expected some of {', '.join(SIDES)}, as ('assistant',)"
        )
    folder, index = open_conversations(path, config, split)
    chosen = pattern_of(pattern)
    read = read_row_groups
    if codes is not None:
        places = [codes] if isinstance(codes, str | Path) else codes
        read = RowCodes.open([*map(str, places)], codec)
    else:
        _check_codes(index)
    text = TextIds(folder.tokenizer if tokenizer is None else text_tokenizer(tokenizer))
    changes = Counter[str]()
    make: Callable[..., Any]
    if isinstance(chosen, Ratio):
        make = partial(SequencesMaker, pattern=chosen, text=text)
    else:
        make = partial(
            StreamsMaker,
            pattern=chosen,
            text=text,
            ids=ids or text.stream_ids(),
            silence=silence,
            text_roles=text_roles,
            keep_all=keep_all_text,
            aligner=aligner or Proportional(),
            changes=changes,
        )
    return conversation_loader(
        index,
        folder.tokenizer,
        lambda device: ConversationCollator(make=make(device=device), gap_s=gap, changes=changes),
        batch_size=batch_size,
        budget_seconds=budget_seconds,
        micro_batches=micro_batches,
        too_long=too_long,
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
        device=device,
        num_threads=num_threads,
        prefetch=prefetch,
        window_bytes=window_bytes,
        verify_checksums=verify_checksums,
        with_clips=False,
        read=read,
    )


def _check_codes(index: Index) -> None:
    """Raises UsageError: rows have no codes of their own."""
    bare = [task for task in index.facts if TASKS[task].codec_targets != "turn"]
    if bare:
        raise UsageError(
            f"{index.folder.address}: rows of {', '.join(bare)} have no codes; expected those of every clip. "
            f"{how_to_make(index)}"
        )
