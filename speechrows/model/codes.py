"""How well an audio head predicts codes: losses, and by codebook accuracy and bits beside their entropy."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from speechrows.loader.batch import Batch
from speechrows.model.audio_head import AudioHead
from speechrows.rows.tasks import TASKS
from speechrows.types import IGNORE_INDEX

_KINDS = ("accuracy", "bits", "entropy")  # of each codebook: entropy is that of its codes, in bits


class CodeSums:
    """Sums over the codes of batches, by task and codebook."""

    def __init__(self, head: AudioHead) -> None:
        spec = head.spec
        self._head, self._end = head, spec.cardinality
        shape = (len(TASKS), spec.num_codebooks)
        # Of each code: its cross entropy in nats, whether it is the likeliest, one. Of clips' ends: the same.
        self._codes = torch.zeros(*shape, 3, dtype=torch.float64)
        self._ends = torch.zeros(len(TASKS), 3, dtype=torch.float64)
        self._times = torch.zeros(*shape, spec.cardinality, dtype=torch.float64)  # that each code comes

    def add(self, hidden: Tensor, batch: Batch) -> None:
        """Add the codes of a batch, predicted from hidden states [B, T, D] of its slots."""
        names = [*TASKS]
        of_clips = torch.tensor([names.index(batch.tasks[row]) for row in batch.codec_row.tolist()])
        for scores in self._head.scores(hidden, batch):
            tasks = of_clips[scores.clip]
            depth = () if scores.depth is None else scores.depth.unbind(1)
            for codebook, logits in enumerate((scores.semantic, *depth)):
                targets = scores.targets[:, codebook]
                losses = functional.cross_entropy(
                    logits.float(), targets, ignore_index=IGNORE_INDEX, reduction="none"
                )
                values = torch.stack((losses, logits.argmax(-1) == targets, torch.ones_like(losses)), 1)
                values, targets = values.double().cpu(), targets.cpu()
                is_end = (targets == self._end) & (codebook == 0)
                is_code = (targets != IGNORE_INDEX) & ~is_end
                self._ends.index_add_(0, tasks[is_end], values[is_end])
                self._codes[:, codebook].index_add_(0, tasks[is_code], values[is_code])
                places = tasks[is_code], torch.full_like(tasks[is_code], codebook), targets[is_code]
                self._times.index_put_(places, torch.ones((), dtype=torch.float64), accumulate=True)

    def report(self, total: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The measures of each task that has codes, by TASK/NAME; `total` sums over ranks, and all call."""
        codes, ends, times = (total(sums).cpu() for sums in (self._codes, self._ends, self._times))
        report = dict[str, float]()
        for task, of_task, end, counts in zip(TASKS, codes, ends, times, strict=True):
            if not end[2]:
                continue
            nats, right, num = of_task.T
            first = (nats[0] + end[0]) / (num[0] + end[2])
            others = nats[1:].sum() / num[1:].sum().clamp(min=1)
            values = {"codec_loss": first + others}
            shares = counts / num[:, None].clamp(min=1)
            bits = torch.stack((nats / num, -torch.xlogy(shares, shares).sum(1))) / math.log(2)
            for codebook, of_codebook in enumerate(zip(right / num, *bits, strict=True)):
                names = (f"codebook_{codebook}_{kind}" for kind in _KINDS)
                values |= dict(zip(names, of_codebook, strict=True))
            report |= {f"{task}/{name}": float(value) for name, value in values.items()}
        return report


def measures(num_codebooks: int) -> list[str]:
    """The names of what `CodeSums.report` gives for a task."""
    return ["codec_loss", *(f"codebook_{k}_{kind}" for k in range(num_codebooks) for kind in _KINDS)]
