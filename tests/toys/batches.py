"""Batches made by hand: noise for speech and features, rubbish at every pad, a row a list of ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechrows.codec import num_audio_tokens
from speechrows.loader.batch import Batch
from speechrows.types import IGNORE_INDEX
from speechrows.types import Samples

RATE = Fraction("12.5")
PAD, AUDIO = 0, 1  # ids; words are above
RUBBISH = 7.0


@dataclass(frozen=True, kw_only=True)
class ToyRow:
    """`num_samples` of noise at 16 kHz, of the name's seed, stand between `before` and `target`."""

    name: str
    num_samples: int = 0
    before: tuple[int, ...] = (3, 4)
    target: tuple[int, ...] = (5, 6, 7, 2)
    codes: Tensor | None = None  # int64 [K, F]
    joined: bool = False  # to the segment of the row before it

    def noise(self, *shape: int) -> np.ndarray:
        return np.random.default_rng(list(self.name.encode())).standard_normal(shape).astype(np.float32)


def row(name: str, seconds: float, **more: Any) -> ToyRow:
    return ToyRow(name=name, num_samples=round(seconds * 16_000), **more)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def toy_batch(
    *sequences: Sequence[ToyRow], rate: Fraction = RATE, mel: int | None = None, pads: int = 2, lead: int = 0
) -> Batch:
    """Sequences of rows, `pads` after the longest, and `lead` pads before each row's segment."""
    rows = [row for sequence in sequences for row in sequence]
    ids, labels, segments, positions, reset, spans = [], [], [], [], [], []
    segment = -1
    for b, sequence in enumerate(sequences):
        line: list[tuple[int, int, int, int, bool]] = []
        position = 0
        for row in sequence:
            if not row.joined:
                line += [(PAD, IGNORE_INDEX, -1, 5, False)] * lead
                segment, position = segment + 1, 0
            audio = [AUDIO] * num_audio_tokens(Samples(row.num_samples), 16_000, rate)
            own = [*row.before, *audio, *row.target]
            masked = len(own) - len(row.target)
            spans.append((b, len(line), len(line) + len(own)))
            for i, token in enumerate(own):
                line.append(
                    (
                        token,
                        token if i >= masked and position else IGNORE_INDEX,
                        segment,
                        position,
                        position == 0,
                    )
                )
                position += 1
        for values, column in zip(
            (ids, labels, segments, positions, reset), zip(*line, strict=True), strict=True
        ):
            values.append(list(column))
    length = max(map(len, ids)) + pads

    def padded(values: list[list[int]], pad: int) -> Tensor:
        return torch.tensor([[*line, *[pad] * (length - len(line))] for line in values])

    segment_ids = padded(segments, -1)
    return Batch(
        input_ids=padded(ids, PAD), labels=padded(labels, IGNORE_INDEX), segment_ids=segment_ids.int(),
        attention_mask=segment_ids >= 0, position_ids=padded(positions, 5),
        reset=padded(reset, 0).bool(), cu_seqlens=torch.zeros(segment + 2, dtype=torch.int32),
        lanes=torch.arange(len(sequences)), row_spans=torch.tensor(spans).reshape(-1, 3),
        row_ids=tuple(row.name for row in rows), conversation_ids=tuple(row.name for row in rows),
        tasks=("ttt",) * len(rows), turn_numbers=(0,) * len(rows),
        source=torch.zeros(len(rows), dtype=torch.int64),
        num_supervised=sum(label != IGNORE_INDEX for line in labels for label in line),
        audio_seconds=0.0, epoch=0, step=0, number=0, sampling_rate=16_000,
        **_audio(rows, rate, mel), **_codes(rows),
    )  # fmt: skip


def idle_batch() -> Batch:
    """What a rank without a micro-batch gets."""
    batch = toy_batch([ToyRow(name="none")], pads=0)
    empty = {
        name: getattr(batch, name)[:0]
        for name in ("input_ids", "labels", "attention_mask", "segment_ids", "position_ids", "reset", "lanes")
    }
    others = {name: getattr(batch, name) for name in batch.__slots__ if name not in empty}
    return Batch(**{**others, **empty, "row_ids": (), "row_spans": batch.row_spans[:0], "number": None,
                    "source": batch.source[:0]})  # fmt: skip


def _audio(rows: list[ToyRow], rate: Fraction, mel: int | None) -> dict[str, Tensor | None]:
    owners = [i for i, row in enumerate(rows) if row.num_samples]
    clips = [rows[i] for i in owners]
    tokens = [num_audio_tokens(Samples(clip.num_samples), 16_000, rate) for clip in clips]
    step = 16_000 / rate / (160 if mel else 1)  # columns, or samples, of an audio token
    longest = int(max(tokens, default=0) * step)
    data = torch.full((len(clips), *([mel] if mel else []), longest), RUBBISH)
    for line, clip, count in zip(data, clips, tokens, strict=True):
        end = int(count * step)
        line[..., :end] = 0.0
        real = end if mel else clip.num_samples
        line[..., :real] = torch.from_numpy(clip.noise(*line.shape[:-1], real))
    return {
        "speech": None if mel else data,
        "features": data if mel else None,
        "speech_lengths": torch.tensor([clip.num_samples for clip in clips], dtype=torch.int64),
        "num_audio_tokens": torch.tensor(tokens, dtype=torch.int64),
        "clip_pieces": torch.ones(len(owners), dtype=torch.int64),
        "clip_segment": torch.tensor(owners, dtype=torch.int64),
        "clip_row": torch.tensor(owners, dtype=torch.int64),
    }


def _codes(rows: list[ToyRow]) -> dict[str, Tensor | str | None]:
    owners = [i for i, row in enumerate(rows) if row.codes is not None]
    codes = [rows[i].codes for i in owners]
    lengths = [clip.shape[1] for clip in codes]
    shape = (len(codes), codes[0].shape[0] if codes else 8, max(lengths, default=0) + 2)
    targets = torch.full(shape, IGNORE_INDEX)
    for line, clip in zip(targets, codes, strict=True):
        line[:, : clip.shape[1]] = clip
    return {
        "codec": "mimi" if codes else None,
        "codec_targets": targets if codes else None,
        "codec_lengths": torch.tensor(lengths, dtype=torch.int64),
        "codec_segment": torch.tensor(owners, dtype=torch.int64),
        "codec_row": torch.tensor(owners, dtype=torch.int64),
    }
