"""Collation: a ragged micro-batch on the host becomes a padded batch on the device.

The samples are copied as they are stored, int16, in one copy, everything else in another; the rest
(float32, resampling, padding, augmentation, log-mel) is computed on the device. The same code runs on a
CPU.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechrows.codec import CODECS
from speechrows.errors import UsageError
from speechrows.loader.batch import ON_HOST
from speechrows.loader.batch import Batch
from speechrows.loader.collate import mel as mels
from speechrows.loader.collate.augment import Augment
from speechrows.loader.collate.augment import Float64
from speechrows.loader.collate.folding import Folding
from speechrows.loader.collate.mel import log_mel
from speechrows.loader.collate.room import Room
from speechrows.loader.collate.slots import filled
from speechrows.loader.collate.slots import lay_out
from speechrows.loader.collate.speech import ClipLengths
from speechrows.loader.collate.speech import clip_lengths
from speechrows.loader.collate.speech import padded_speech
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import expanded
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.ragged import Ragged
from speechrows.types import IGNORE_INDEX

_DTYPES = {  # on the device; the others stay int64
    "attention_mask": torch.bool,
    "segment_ids": torch.int32,
    "reset": torch.bool,
    "cu_seqlens": torch.int32,
}


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Makes batches on a device; `collator(ragged, epoch)`.

    Raises:
        UsageError: options that contradict each other.
    """

    device: torch.device | str
    pad_id: int
    plan_options: PlanOptions
    audio_tokens_per_second: Fraction
    sampling_rate: int = mels.SAMPLING_RATE
    mel: int | None = None  # bins of log-mel features, 80 or 128; None for speech
    augment: Augment | None = None
    seed: int = 0  # of augmentation
    room: Room = field(default_factory=Room, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.sampling_rate < 1:
            raise UsageError(f"sampling_rate: found {self.sampling_rate}, expected a number above 0, in Hz")
        if self.mel is None:
            if self.augment is not None and self.augment.masks:
                raise UsageError("time_masks and frequency_masks are of features; give mel=80 or mel=128")
            return
        if self.mel not in (80, 128):
            raise UsageError(f"mel: found {self.mel}, expected 80 or 128")
        if self.sampling_rate != mels.SAMPLING_RATE:
            raise UsageError(
                f"sampling_rate: found {self.sampling_rate}, expected {mels.SAMPLING_RATE} with mel"
            )
        if self.sampling_rate / self.audio_tokens_per_second <= mels.SIDE:
            raise UsageError(
                f"audio_tokens_per_second: found {float(self.audio_tokens_per_second):g}, expected less "
                f"than {self.sampling_rate // mels.SIDE} with mel: a shorter clip has no frame"
            )

    def __getstate__(self) -> dict[str, Any]:
        """The options: a process that gets this collator makes a CUDA stream of its own."""
        return {name: value for name, value in vars(self).items() if name != "_stream"}

    def __call__(self, ragged: Ragged, epoch: int) -> Batch:
        """The batch of a micro-batch, whose buffer is released.

        Raises:
            ShortfallError: a clip is longer than its placeholders.
        """
        drawn = self._drawn(ragged, epoch)
        speeds = None if self.augment is None or drawn is None else self.augment.speeds(drawn)
        clips = clip_lengths(ragged, speeds, self.sampling_rate, self.audio_tokens_per_second)
        samples, copied = self._copied(torch.from_numpy(ragged.samples))
        codec_targets = self._codec_targets(ragged)
        folding = Folding.of(clips.rooms, self.plan_options.mode)
        fields = self._fields(ragged, clips, folding)
        on_host = {name: torch.from_numpy(fields.pop(name)) for name in ON_HOST}
        sent = self._sent(fields)
        num_supervised = int(np.count_nonzero(fields["labels"] != IGNORE_INDEX))
        with torch.autocast(torch.device(self.device).type, enabled=False):
            speech, features = self._audio(samples, clips, folding, drawn)
        if copied is not None:
            copied.synchronize()
        ragged.release()
        return Batch(
            **{name: sent[name] for name in fields},
            **on_host,
            speech=speech,
            features=features,
            sampling_rate=self.sampling_rate,
            codec=ragged.codec,
            codec_targets=codec_targets,
            row_ids=ragged.row_ids,
            conversation_ids=tuple(_conversation_id(row_id) for row_id in ragged.row_ids),
            tasks=ragged.tasks,
            turn_numbers=tuple(ragged.turn_numbers.tolist()),
            num_supervised=num_supervised,
            audio_seconds=float((clips.num_samples / clips.rates).sum()),
            epoch=epoch,
            step=ragged.micro_batch.step,
            number=ragged.micro_batch.number,
        )

    def _drawn(self, ragged: Ragged, epoch: int) -> Float64 | None:
        """The numbers that decide each clip's augmentation, [N]."""
        if self.augment is None:
            return None
        row_ids = [ragged.row_ids[row] for row in ragged.clip_rows.tolist()]
        repeats = ragged.micro_batch.repeats
        of_clips = None if repeats is None else repeats[ragged.clip_rows].tolist()
        return self.augment.draw(row_ids, self.seed, epoch, of_clips)

    def _fields(self, ragged: Ragged, clips: ClipLengths, folding: Folding) -> dict[str, Int64]:
        """The fields of a batch that are arrays of whole numbers."""
        slots = lay_out(ragged, self.plan_options, self.pad_id)
        micro_batch = ragged.micro_batch
        ends = micro_batch.start + ragged.num_tokens
        spans = np.stack([micro_batch.sequence, micro_batch.start, ends], axis=1)
        return {
            "input_ids": slots.input_ids,
            "labels": slots.labels,
            "attention_mask": slots.attention_mask,
            "segment_ids": slots.segment_ids,
            "position_ids": slots.position_ids,
            "reset": slots.reset,
            "cu_seqlens": slots.cu_seqlens,
            "lanes": micro_batch.first_lane + np.arange(micro_batch.num_sequences),
            "speech_lengths": clips.lengths,
            "num_audio_tokens": ragged.num_audio_tokens.astype(np.int64),
            "clip_pieces": folding.pieces,
            "clip_segment": slots.row_segments[ragged.clip_rows],
            "clip_row": ragged.clip_rows.astype(np.int64),
            "codec_lengths": ragged.num_frames.astype(np.int64),
            "codec_segment": slots.row_segments[ragged.code_rows],
            "codec_row": ragged.code_rows.astype(np.int64),
            "row_spans": spans.astype(np.int64),
            "source": _source(ragged),
        }

    def _sent(self, arrays: Mapping[str, Int64]) -> dict[str, Tensor]:
        """Copy arrays to the device, all of them at once."""
        flat = torch.from_numpy(np.concatenate([array.ravel() for array in arrays.values()]))
        pieces = self._moved(flat).split([array.size for array in arrays.values()])
        tensors = {
            name: piece.view(array.shape) for (name, array), piece in zip(arrays.items(), pieces, strict=True)
        }
        return {name: tensor.to(_DTYPES.get(name, torch.int64)) for name, tensor in tensors.items()}

    def _moved(self, values: Tensor) -> Tensor:
        """Copy values from the host to the device; torch keeps the pinned ones until they have arrived."""
        if self._stream is None:
            return values.to(self.device)
        return values.pin_memory().to(self.device, non_blocking=True)

    def _codec_targets(self, ragged: Ragged) -> Tensor | None:
        """Codes as int64 [N_c, K, F], padded with -100."""
        if ragged.codec is None:
            return None
        num_codebooks = CODECS[ragged.codec].num_codebooks
        shape = (len(ragged.num_frames), num_codebooks, int(ragged.num_frames.max(initial=0)))
        lines: Int64 = np.arange(shape[0] * num_codebooks) * shape[2]
        places = expanded(lines, np.repeat(ragged.num_frames, num_codebooks))
        return self._moved(torch.from_numpy(filled(shape, IGNORE_INDEX, places, ragged.codes)))

    @cached_property
    def _stream(self) -> torch.cuda.Stream | None:
        """A CUDA stream on which samples are copied while the device computes; None on a CPU."""
        device = torch.device(self.device)
        return torch.cuda.Stream(device) if device.type == "cuda" else None

    def _copied(self, samples: Tensor) -> tuple[Tensor, torch.Event | None]:
        """Copy samples to the device; also the event after which those on the host may be overwritten."""
        if self._stream is None:
            return samples.to(self.device), None
        with torch.cuda.stream(self._stream):
            moved = samples.to(self.device, non_blocking=samples.is_pinned())
            copied = self._stream.record_event()
        computing = torch.cuda.current_stream(self._stream.device)
        computing.wait_event(copied)
        moved.record_stream(computing)  # its memory must not be reused before that stream is done
        return moved, copied

    def _audio(
        self, samples: Tensor, clips: ClipLengths, folding: Folding, drawn: Float64 | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Speech, or features where `mel` is given: made of clips of like length together."""
        waves = samples.split(clips.num_samples.tolist())
        parts = [self._audio_of(waves, clips, drawn)] if len(folding.groups) == 1 else [
            self._audio_of(
                [waves[i] for i in group.tolist()], clips.of(group), None if drawn is None else drawn[group]
            )
            for group in folding.groups
        ]  # fmt: skip
        audio = folding.joined(parts, 1 if self.mel is None else mels.HOP)
        return (audio, None) if self.mel is None else (None, audio)

    def _audio_of(self, waves: Sequence[Tensor], clips: ClipLengths, drawn: Float64 | None) -> Tensor:
        """Speech or features of clips, a row each."""
        sent = self._sent({
            "rooms": clips.rooms, "lengths": clips.lengths, "places": clips.places, "sorted": clips.sorted,
        })  # fmt: skip
        speech = padded_speech(
            waves, clips, sent["sorted"], sent["places"], self.sampling_rate, self.room, self.device
        )
        if self.augment is None or drawn is None:
            return speech if self.mel is None else log_mel(speech, sent["rooms"], self.mel)
        numbers = self._moved(torch.from_numpy(drawn.astype(np.float32)))
        speech = self.augment.change_speech(speech, sent["lengths"], numbers)
        if self.mel is None:
            return speech
        features = log_mel(speech, sent["rooms"], self.mel)
        frames = torch.minimum(-(-sent["lengths"] // mels.HOP), sent["rooms"] // mels.HOP)
        return self.augment.change_features(features, frames, numbers)


def _source(ragged: Ragged) -> Int64:
    sources = ragged.micro_batch.sources
    return np.zeros(len(ragged), np.int64) if sources is None else sources.astype(np.int64)


def _conversation_id(row_id: str) -> str:
    """The third part of `builder/split/conversation_id/turn/task`; it may hold slashes of its own."""
    return row_id.split("/", 2)[2].rsplit("/", 2)[0]
