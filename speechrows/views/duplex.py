"""`speechrows.load_duplex`: conversations as NeMo's DuplexS2SDataset gives them, its sharp edges mended.

The function is longer than 40 lines: every option is described in this one place.
"""

import math
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TypedDict
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from speechrows.audio.slices import to_samples
from speechrows.conversations.duplex_tokens import CUT_TEXTS
from speechrows.conversations.duplex_tokens import Overflow
from speechrows.conversations.duplex_tokens import SpecialIds
from speechrows.conversations.duplex_tokens import TimedText
from speechrows.conversations.duplex_tokens import token_channel
from speechrows.conversations.frames import FrameGrid
from speechrows.conversations.sides import INPUT
from speechrows.conversations.sides import OUTPUT
from speechrows.conversations.sides import Sides
from speechrows.conversations.special import special_ids
from speechrows.errors import UsageError
from speechrows.loader.collate.room import Room
from speechrows.loader.opened_folder import OpenedFolder
from speechrows.loader.plan.values import TooLong
from speechrows.views.channels import fill
from speechrows.views.conversations import ConversationCollator
from speechrows.views.conversations import TimedConversation
from speechrows.views.loader import ConversationLoader
from speechrows.views.loader import conversation_loader
from speechrows.views.loader import open_conversations
from speechrows.views.plain_texts import PlainText
from speechrows.views.plain_texts import PlainTexts


class DuplexBatch(TypedDict):
    """B conversations: T samples of the longest at the rate of a channel, F frames; zeros and pads behind.

    The batch of an idle rank has B = 0.
    """

    source_audio: Tensor  # float32 [B, T] in [-1, 1], what the input roles say
    source_audio_lens: Tensor  # int32 [B]
    target_audio: Tensor  # float32 [B, T'] in [-1, 1], what the output roles say
    target_audio_lens: Tensor  # int32 [B]
    target_tokens: Tensor  # int64 [B, F]
    target_token_lens: Tensor  # int64 [B]
    source_tokens: Tensor  # int64 [B, F]
    source_token_lens: Tensor  # int64 [B]
    target_texts: list[str]  # [B], what the output roles say, joined by spaces
    conversation_ids: list[str]  # [B]


def load_duplex(  # noqa: PLR0913
    path: str | Path | OpenedFolder,
    config: str = "",
    split: str = "train",
    *,
    source_sample_rate: int,
    target_sample_rate: int,
    tokenizer: str | PreTrainedTokenizerFast | None = None,
    frame_length: float = 0.08,
    input_roles: Sequence[str] = ("user",),
    output_roles: Sequence[str] = ("agent",),
    overflow: Overflow = "error",
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
    cache_bytes: int | None = None,
    verify_checksums: bool = False,
) -> ConversationLoader[DuplexBatch]:
    """Load conversations, both sides in time, as NeMo's DuplexS2SDataset does: its keys, shapes, dtypes.

    Each side is a channel, silent where the other speaks, and a row of tokens, one a frame: bos where a turn
    begins, its text's ids after it, eos where it ends, pad elsewhere. Turns lie where their rows' `start_s`
    says; where one is not known, `gap` seconds after all before it.

    Args:
        path: the folder, or `org/name`; opened, where several loaders share it.
        config: a config whose rows are turns: `ttt`, `stage_2`…
        split: a split of that config.
        source_sample_rate: of `source_audio`, in Hz.
        target_sample_rate: of `target_audio`, in Hz.
        tokenizer: of the texts, or its name; it has bos, eos and pad. Default: the folder's own.
        frame_length: of tokens, in seconds.
        input_roles: who is heard in `source_audio`: roles (`user`; `agent` or `assistant`), or speakers by
            the corpus' names, which go before roles.
        output_roles: who is heard in `target_audio`.
        overflow: a text with more ids than its turn has frames, and a turn that begins before 0, are an
            error, or "cut" to the turn and counted in the loader's `changes`.
        gap: seconds between turns whose times are not known.
        batch_size: conversations of a micro-batch; with `budget_seconds` the most there may be.
        budget_seconds: seconds of clips in a micro-batch, padding counted: puts conversations of like length
            together.
        micro_batches: micro-batches of a step, as for `speechrows.load`.
        too_long: what to do with a conversation over the budget: "error", or "drop" and count its rows in
            `loader.plan.num_dropped`.
        shuffle: whether conversations are in random order, or in that of the files.
        seed: of the order.
        rank: the number of this process.
        world_size: the number of processes that share a step.
        device: where batches are made.
        num_threads: threads that read and decode.
        prefetch: micro-batches read ahead.
        window_bytes: shuffle inside windows of so many bytes of audio, as for `speechrows.load`.
        cache_bytes: keep so many bytes of a store's shards on this machine's disk, as for `speechrows.load`.
        verify_checksums: compare the checksums of pages before their first row is used.

    Raises:
        UsageError: no such rows, a tokenizer that does not do, or options that contradict each other. While
            batches are read: a conversation with a text, a time or a speaker that does not fit; it is named.
    """
    folder, index = open_conversations(path, config, split)
    tokenizer = folder.chosen_tokenizer(tokenizer)
    _check(overflow, frame_length, gap, {source_sample_rate, target_sample_rate})
    slowest = int(index.sampling_rate.min(initial=source_sample_rate))
    if FrameGrid(frame_length_s=frame_length, rate_hz=slowest).hop < 1:
        raise UsageError(f"frame_length: found {frame_length}, less than a sample at {slowest} Hz")
    sides, changes = Sides.of(input_roles, output_roles), Counter[str]()
    maker = _Maker(
        texts=PlainTexts(tokenizer),
        special=special_ids(tokenizer, frame_length),
        rates=(source_sample_rate, target_sample_rate),
        frame_length_s=frame_length,
        overflow=overflow,
        changes=changes,
    )
    return conversation_loader(
        index,
        tokenizer,
        lambda chosen: ConversationCollator(
            make=partial(maker, chosen), side_of=sides.side_of, gap_s=gap, early=overflow, changes=changes
        ),
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
        cache_bytes=cache_bytes,
        verify_checksums=verify_checksums,
    )


def _check(overflow: str, frame_length: float, gap: float, rates: set[int]) -> None:
    if overflow not in get_args(Overflow):
        raise UsageError(f"overflow: found {overflow!r}, expected error or cut")
    if not 0 < frame_length < math.inf:
        raise UsageError(f"frame_length: found {frame_length}, expected seconds above 0, as 0.08")
    if not 0 <= gap < math.inf:
        raise UsageError(f"gap: found {gap}, expected seconds from 0 on")
    for rate in rates:
        if not isinstance(rate, int) or rate < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"sample rates: found {rate}, expected a whole number above 0, in Hz")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Maker:
    """Makes the batch of some conversations: `maker(device, conversations)`."""

    texts: PlainTexts
    special: SpecialIds
    rates: tuple[int, int]  # of source and target
    frame_length_s: float
    overflow: Overflow
    changes: Counter[str]
    room: Room = field(default_factory=Room)

    def __call__(self, device: torch.device, talks: Sequence[TimedConversation]) -> DuplexBatch:
        texts = self.texts.of(timed.turn.text for talk in talks for timed in talk.turns)
        source, target = (self._audio(device, talks, side) for side in (INPUT, OUTPUT))
        source_tokens, target_tokens, token_lens = self._tokens(talks, texts)
        return DuplexBatch(
            source_audio=source[0],
            source_audio_lens=source[1],
            target_audio=target[0],
            target_audio_lens=target[1],
            target_tokens=target_tokens.to(device),
            target_token_lens=token_lens.to(device),
            source_tokens=source_tokens.to(device),
            source_token_lens=token_lens.to(device, copy=True),
            target_texts=[
                " ".join(texts[timed.turn.text][0] for timed in talk.turns if timed.side == OUTPUT)
                for talk in talks
            ],
            conversation_ids=[talk.id for talk in talks],
        )

    def _audio(
        self, device: torch.device, talks: Sequence[TimedConversation], side: int
    ) -> tuple[Tensor, Tensor]:
        """A side's channels, float32 [B, T], and their lengths, int32 [B]."""
        rate = self.rates[side]
        lengths = [int(to_samples(talk.seconds, rate)) for talk in talks]
        audio = self.room.take(len(talks), max(lengths, default=0), device)
        for channel, length, talk in zip(audio, lengths, talks, strict=True):
            own = [timed for timed in talk.turns if timed.side == side]
            fill(channel[:length], own, talk.rate_hz, rate)
            channel[length:].zero_()
        return audio, torch.tensor(lengths, dtype=torch.int32, device=device)

    def _tokens(
        self, talks: Sequence[TimedConversation], texts: Mapping[str, PlainText]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of source and target, int64 [B, F], and the frames of each conversation, [B]."""
        lens = list[int]()
        lines = tuple[list[np.ndarray], list[np.ndarray]]([[], []])
        for talk in talks:
            grid = FrameGrid(frame_length_s=self.frame_length_s, rate_hz=talk.rate_hz)
            lens.append(grid.frame_at(talk.seconds))
            for side in (INPUT, OUTPUT):
                own = [
                    TimedText(
                        text=timed.turn.text,
                        ids=texts[timed.turn.text][1],
                        start_s=timed.start_s,
                        stop_s=timed.stop_s,
                    )
                    for timed in talk.turns
                    if timed.side == side
                ]
                tokens, num_cut = token_channel(own, lens[-1], grid, self.special, self.overflow, talk.id)
                lines[side].append(tokens)
                self.changes[CUT_TEXTS] += num_cut
        padded = torch.full((2, len(talks), max(lens, default=0)), self.special.pad, dtype=torch.int64)
        for side in (INPUT, OUTPUT):
            for row, tokens in enumerate(lines[side]):
                padded[side, row, : len(tokens)] = torch.from_numpy(tokens)
        return padded[0], padded[1], torch.tensor(lens, dtype=torch.int64)
