"""Collation: a ragged micro-batch on the host becomes a padded batch on the device.

The samples go there as they are stored, int16, in one copy, everything else in another; what follows
(float32, another rate, padding, augmentation, log-mel) is done there. The same code runs on a CPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

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
from speechrows.loader.collate.mel import log_mel
from speechrows.loader.collate.slots import filled
from speechrows.loader.collate.slots import lay_out
from speechrows.loader.collate.slots import ranges
from speechrows.loader.collate.speech import Clips
from speechrows.loader.collate.speech import clips_of
from speechrows.loader.collate.speech import padded_speech
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.ragged import Ragged
from speechrows.types import IGNORE_INDEX

_DTYPES = {  # on the device; all else stays as it is sent
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

    def __call__(self, ragged: Ragged, epoch: int) -> Batch:
        """The batch; the ragged one's buffer is released.

        Raises:
            ShortfallError: a clip is longer than its placeholders.
        """
        row_ids = [ragged.row_ids[row] for row in ragged.clip_rows.tolist()]
        drawn = None if self.augment is None else self.augment.draw(row_ids, self.seed, epoch)
        speeds = None if self.augment is None or drawn is None else self.augment.speeds(drawn)
        clips = clips_of(ragged, speeds, self.sampling_rate, self.audio_tokens_per_second)
        samples, copied = self._copied(torch.from_numpy(ragged.samples))
        codec_targets = self._codec_targets(ragged)
        fields = self._fields(ragged, clips)
        kept = {name: torch.from_numpy(fields.pop(name)) for name in ON_HOST}
        sent = self._sent({**fields, "rooms": clips.rooms, "places": clips.places, "sorted": clips.sorted})
        num_supervised = int(np.count_nonzero(fields["labels"] != IGNORE_INDEX))
        with torch.autocast(torch.device(self.device).type, enabled=False):
            speech, features = self._audio(samples, clips, sent, drawn)
        if copied is not None:
            copied.synchronize()
        ragged.release()
        placed = ragged.micro_batch
        return Batch(
            **{name: sent[name] for name in fields},
            **kept,
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
            step=placed.step,
            number=placed.number,
        )

    def _fields(self, ragged: Ragged, clips: Clips) -> dict[str, Int64]:
        """The fields of a batch that are numbers alone."""
        slots = lay_out(ragged, self.plan_options, self.pad_id)
        placed = ragged.micro_batch
        spans = np.stack([placed.sequence, placed.start, placed.start + ragged.num_tokens], axis=1)
        return {
            "input_ids": slots.input_ids,
            "labels": slots.labels,
            "attention_mask": slots.attention_mask,
            "segment_ids": slots.segment_ids,
            "position_ids": slots.position_ids,
            "reset": slots.reset,
            "cu_seqlens": slots.cu_seqlens,
            "lanes": placed.first_lane + np.arange(placed.num_sequences),
            "speech_lengths": clips.lengths,
            "num_audio_tokens": ragged.num_audio_tokens.astype(np.int64),
            "clip_segment": slots.row_segments[ragged.clip_rows],
            "clip_row": ragged.clip_rows.astype(np.int64),
            "codec_lengths": ragged.num_frames.astype(np.int64),
            "codec_segment": slots.row_segments[ragged.code_rows],
            "codec_row": ragged.code_rows.astype(np.int64),
            "row_spans": spans.astype(np.int64),
        }

    def _sent(self, arrays: Mapping[str, Int64]) -> dict[str, Tensor]:
        """Arrays on the device, all of them in one copy."""
        moved = self._moved(torch.from_numpy(np.concatenate([one.ravel() for one in arrays.values()])))
        parts = moved.split([one.size for one in arrays.values()])
        made = {name: part.view(one.shape) for (name, one), part in zip(arrays.items(), parts, strict=True)}
        return {name: part.to(_DTYPES.get(name, torch.int64)) for name, part in made.items()}

    def _moved(self, values: Tensor) -> Tensor:
        """Values of the host's on the device; torch keeps the pinned ones until they are there."""
        if self._stream is None:
            return values.to(self.device)
        return values.pin_memory().to(self.device, non_blocking=True)

    def _codec_targets(self, ragged: Ragged) -> Tensor | None:
        """Codes as [N_c, K, F], padded."""
        if ragged.codec is None:
            return None
        num_codebooks = CODECS[ragged.codec].num_codebooks
        shape = (len(ragged.num_frames), num_codebooks, int(ragged.num_frames.max(initial=0)))
        lines = np.arange(shape[0] * num_codebooks) * shape[2]
        places, _ = ranges(lines, np.repeat(ragged.num_frames, num_codebooks).astype(np.int64))
        return self._moved(torch.from_numpy(filled(shape, IGNORE_INDEX, places, ragged.codes)))

    @cached_property
    def _stream(self) -> torch.cuda.Stream | None:
        """Where samples are copied while the device is at work; None where there is nothing to copy to."""
        device = torch.device(self.device)
        return torch.cuda.Stream(device) if device.type == "cuda" else None

    def _copied(self, samples: Tensor) -> tuple[Tensor, torch.Event | None]:
        """Samples on the device, and what to wait for before theirs on the host may change."""
        if self._stream is None:
            return samples.to(self.device), None
        with torch.cuda.stream(self._stream):
            moved = samples.to(self.device, non_blocking=samples.is_pinned())
            copied = self._stream.record_event()
        working = torch.cuda.current_stream(self._stream.device)
        working.wait_event(copied)
        moved.record_stream(working)  # its memory is not to be used anew before that is done
        return moved, copied

    def _audio(
        self, samples: Tensor, clips: Clips, sent: Mapping[str, Tensor], drawn: Float64 | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Speech or features."""
        speech = padded_speech(samples, clips, sent["sorted"], sent["places"], self.sampling_rate)
        lengths = sent["speech_lengths"]
        if self.augment is None or drawn is None:
            return (speech, None) if self.mel is None else (None, log_mel(speech, sent["rooms"], self.mel))
        numbers = self._moved(torch.from_numpy(drawn.astype(np.float32)))
        speech = self.augment.change_speech(speech, lengths, numbers)
        if self.mel is None:
            return speech, None
        features = log_mel(speech, sent["rooms"], self.mel)
        frames = torch.minimum(-(-lengths // mels.HOP), sent["rooms"] // mels.HOP)
        return None, self.augment.change_features(features, frames, numbers)


def _conversation_id(row_id: str) -> str:
    """Of `builder/split/conversation_id/turn/task`, where the third may hold slashes of its own."""
    return row_id.split("/", 2)[2].rsplit("/", 2)[0]
