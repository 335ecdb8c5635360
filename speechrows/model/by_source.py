"""Losses and hours by source of a mix, between two reports of a run."""

from collections.abc import Callable
from collections.abc import Sequence

import torch
from torch import Tensor

from speechrows.loader.batch import Batch
from speechrows.model.speech_lm import SpeechLMOutput
from speechrows.types import IGNORE_INDEX


class BySource:
    """Sums of each source since the last report; of a run of one source alone, nothing.

    `names` are a loader's sources, which `Batch.source` numbers.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._sums = torch.zeros(3, len(names))  # losses, supervised tokens, seconds of audio

    def add(self, batch: Batch, output: SpeechLMOutput) -> None:
        """Add a batch that a model has read."""
        if len(self._names) < 2:
            return
        device = output.token_losses.device
        self._sums = self._sums.to(device)
        owner = torch.zeros(batch.labels.shape, dtype=torch.int64)
        for source, (sequence, start, stop) in zip(
            batch.source.tolist(), batch.row_spans.tolist(), strict=True
        ):
            owner[sequence, start:stop] = source
        of_tokens = owner.to(device)[:, 1:][batch.labels[:, 1:] != IGNORE_INDEX]
        self._sums[0].index_add_(0, of_tokens, output.token_losses)
        self._sums[1].index_add_(0, of_tokens, torch.ones_like(output.token_losses))
        of_clips = batch.source[batch.clip_row].to(device)
        self._sums[2].index_add_(0, of_clips, batch.speech_lengths.to(device) / batch.sampling_rate)

    def report(self, total: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The mean loss of a supervised token and the hours of audio of each source; sums begin anew.

        `total` sums a tensor over all ranks, and all ranks call this.
        """
        if len(self._names) < 2:
            return {}
        values = dict[str, float]()
        for name, (losses, tokens, seconds) in zip(self._names, total(self._sums).T.tolist(), strict=True):
            values |= {f"source/{name}/text_loss": losses / tokens} if tokens else {}
            values[f"source/{name}/hours"] = seconds / 3600
        self._sums = torch.zeros_like(self._sums)
        return values
