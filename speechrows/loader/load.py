"""`speechrows.load`: from a built folder, or a Hub dataset, to batches.

The function is longer than 40 lines: every option of loading is described in this one place.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.loader.collate.augment import Augment
from speechrows.loader.collate.collator import Collator
from speechrows.loader.loader import Loader
from speechrows.loader.open_stream import checked_device
from speechrows.loader.open_stream import stream_opener
from speechrows.loader.opened_folder import OpenedFolder
from speechrows.loader.opened_mix import OpenedMix
from speechrows.loader.plan.values import CloseOn
from speechrows.loader.plan.values import Mode
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import TooLong
from speechrows.loader.read.codecs import several
from speechrows.loader.read.remote import WINDOW_BYTES
from speechrows.loader.rendered import rate_of
from speechrows.mix.values import Mix
from speechrows.mix.values import is_mix
from speechrows.text import tokenizers
from speechrows.text.audio_token import audio_token_id


def load(  # noqa: PLR0913
    path: str | Path | Mix | Sequence[str | Path] | OpenedFolder | OpenedMix,
    config: str = "",
    split: str = "train",
    mode: Mode = "bucket",
    *,
    budget_seconds: float | None = None,
    budget_tokens: int | None = None,
    context: int | None = None,
    batch_size: int | None = None,
    micro_batches: int | None = None,
    close_on: CloseOn = "conversation",
    too_long: TooLong = "error",
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    sampling_rate: int = 16_000,
    mel: int | None = None,
    augment: Augment | None = None,
    tokenizer: str | PreTrainedTokenizerFast | None = None,
    audio_tokens_per_second: str | float | None = None,
    num_threads: int = 2,
    prefetch: int = 4,
    window_bytes: int | None = None,
    cache_bytes: int | None = None,
    session_tokens: int | None = None,
    verify_checksums: bool = False,
) -> Loader:
    """Load batches of a config and split of a built folder, or of a Hub dataset `org/name`.

    Budgets, `context` and `batch_size` hold for one micro-batch; an optimiser step is `micro_batches` of
    them (default: `world_size`), divided among the ranks: steps are the same on any number of ranks.

    Args:
        path: the folder, or `org/name`; a mix of several: a `mix.yaml`, a `speechrows.mix.Mix`, or a list of
            folders; opened, where several loaders share it.
        config: a config of its card: `ttt`, `stage_2`, `transcription`… Without one, the error names them.
            The sources of a mix say theirs.
        split: a split of that config.
        mode: `bucket` (rows of like length, under a budget), `pack` (sequences of `context` tokens filled
            with conversations) or `lanes` (lane b of a step continues in lane b of the next).
        budget_seconds: mode `bucket`: seconds of audio in a micro-batch, padding counted.
        budget_tokens: the same, in tokens.
        context: modes `pack` and `lanes`: slots of a sequence.
        batch_size: sequences of a micro-batch; in `bucket`, the most there may be.
        micro_batches: micro-batches of a step; 24 divide among 1, 2, 3, 4, 6 and 8 ranks.
        close_on: what is padded to a multiple of the task's padding: whole conversations, or each turn.
        too_long: what to do with a row over the budget: "error", or "drop" and count it in
            `loader.plan.num_dropped`.
        seed: of the order, and of augmentation.
        rank: the number of this process.
        world_size: the number of processes that share a step.
        device: where batches are made.
        sampling_rate: of `speech`, in Hz; clips of another rate are resampled.
        mel: bins of log-mel `features`, 80 or 128; None for `speech`.
        augment: options of augmentation, for training rows.
        tokenizer: another one than the rows were built with, or its name: rows are retokenised.
        audio_tokens_per_second: another rate of placeholders than the rows were built with.
        num_threads: threads that read and decode.
        prefetch: micro-batches read ahead.
        window_bytes: shuffle inside windows of so many bytes of audio, so that what is read lies together;
            default: the whole epoch, or 512 MiB where the rows are on the Hub.
        cache_bytes: of shards in a store, so many bytes of audio are kept on this machine's disk
            (HF_DATASETS_CACHE), which all its processes share: what was not used for longest goes.
        session_tokens: mode `lanes`: conversations of one source (a corpus with its folder or publisher's
            split) follow one another in sessions of at most so many tokens, pads counted, and the state
            is reset where a session begins; default: where each conversation does.
        verify_checksums: read each row group whole, once, before its first row is used, and compare the
            checksums of its pages: what rotted is an error that names its file. The Hub is read twice.

    Raises:
        UsageError: no such rows, or options that contradict each other.
    """
    device = checked_device(device)
    if str(mode) == "conversations":
        raise UsageError("mode: found 'conversations', which are a view's; call speechrows.load_duplex")
    if augment is not None and not isinstance(augment, Augment):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(
            f"augment: found {augment!r:.80}, expected speechrows.loader.collate.augment.Augment(…)"
        )
    opened = open_rows(path, config, split)
    if isinstance(opened, OpenedMix):
        rows = opened.rendered(tokenizer, audio_tokens_per_second)
    else:
        rows = opened.rendered(config, split, tokenizer, audio_tokens_per_second)
    index, tokenizer = rows.index, rows.tokenizer
    if rows.mix is not None and rows.mix.codecs is not None and mode != "bucket":
        raise UsageError(
            f"{index.address}: {several(rows.mix.owners())}, and a batch has one; found mode {mode}, "
            "expected bucket, which keeps them apart. Or load those sources apart"
        )
    if window_bytes is None and not index.is_local.all():
        window_bytes = WINDOW_BYTES
    options = PlanOptions(
        mode=mode,
        budget_seconds=budget_seconds,
        budget_tokens=budget_tokens,
        context=context,
        batch_size=batch_size,
        micro_batches=world_size if micro_batches is None else micro_batches,
        pad_to_multiple_of=index.pad_to_multiple_of,
        close_on=close_on,
        too_long=too_long,
        seed=seed,
        window_bytes=window_bytes,
        session_tokens=session_tokens,
    )
    collator = Collator(
        device=device,
        pad_id=tokenizers.pad_id(tokenizer),
        plan_options=options,
        sampling_rate=sampling_rate,
        audio_tokens_per_second=rate_of(index),
        mel=mel,
        augment=augment,
        seed=seed,
    )
    open_stream = stream_opener(
        index,
        device,
        read=rows.read,
        audio_id=audio_token_id(tokenizer),
        window_bytes=window_bytes,
        cache_bytes=cache_bytes,
        num_threads=num_threads,
        prefetch=prefetch,
        verify_checksums=verify_checksums,
    )
    return Loader(
        index,
        options,
        open_stream,
        collator,
        tokenizer,
        mix=rows.mix and replace(rows.mix, counts_repeats=augment is not None),
        rank=rank,
        world_size=world_size,
        any_micro_batches=micro_batches is None,
    )


def open_rows(
    path: str | Path | Mix | Sequence[str | Path] | OpenedFolder | OpenedMix,
    config: str = "",
    split: str = "train",
) -> OpenedFolder | OpenedMix:
    """What `load` takes as a path, opened for several loaders; config and split are those of a list of paths.

    Raises:
        UsageError: it is a mix that contradicts itself, or a config is given beside one.
    """
    if isinstance(path, OpenedFolder):
        return path
    if isinstance(path, OpenedMix):
        path.check_alone(config, split)
        return path
    if (isinstance(path, Mix | Sequence) and not isinstance(path, str)) or is_mix(path):
        return OpenedMix(path, config, split)
    return OpenedFolder(path)
