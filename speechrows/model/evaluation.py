"""How good a model is on rows: its loss on each task, and how many rows it says exactly."""

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.model.lanes import Lanes
from speechrows.model.speech_lm import SpeechLM
from speechrows.tasks import TASKS
from speechrows.types import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSet:
    """Rows to evaluate on, under a name."""

    name: str
    path: str
    config: str
    split: str

    @staticmethod
    def parse(text: str, config: str) -> "EvalSet":
        """What NAME=PATH[:CONFIG[:SPLIT]] says; otherwise `config`, and its split `validation`."""
        name, equals, place = text.partition("=")
        path, *rest = place.split(":")
        if not (equals and path) or len(rest) > 2:
            raise UsageError(f"evaluation set: found {text!r}, expected NAME=PATH[:CONFIG[:SPLIT]]")
        config, split = (*rest, *(config, "validation")[len(rest) :])
        return EvalSet(name=name, path=path, config=config, split=split)


@torch.no_grad()
def text_losses(model: nn.Module, batches: Iterable[Batch], lanes: Lanes) -> Tensor:
    """float64 [2, tasks]: the summed loss and the supervised tokens of each of TASKS.

    `model` is an Omni, wrapped or not; `lanes` are left where the rows leave them.
    """
    model.eval()
    sums = torch.zeros(2, len(TASKS), dtype=torch.float64)
    for batch in batches:
        made = model(batch, lanes.states(batch)).text
        lanes.keep(batch, made.states)
        losses = functional.cross_entropy(made.logits.float(), made.targets, reduction="none")
        of_tasks = _tasks(batch)
        sums[0].index_add_(0, of_tasks, losses.double().cpu())
        sums[1].index_add_(0, of_tasks, torch.ones_like(of_tasks, dtype=torch.float64))
    model.train()
    return sums


def _tasks(batch: Batch) -> Tensor:
    """The place in TASKS of each supervised token, row-major."""
    names = [*TASKS]
    owner = torch.zeros(batch.labels.shape, dtype=torch.int64)
    for task, (sequence, start, stop) in zip(batch.tasks, batch.row_spans.tolist(), strict=True):
        owner[sequence, start:stop] = names.index(task)
    return owner[(batch.labels != IGNORE_INDEX).cpu()]


@torch.no_grad()
def decoded(model: SpeechLM, batches: Iterable[Batch]) -> Iterator[tuple[str, list[int], bool]]:
    """Of rows, each in a batch alone: name, what the model says greedily, and whether it is the target."""
    model.eval()
    for batch in batches:
        *target, end = batch.labels[batch.labels != IGNORE_INDEX].tolist()
        (said,) = model.generate(batch, max_new_tokens=len(target) + 8, end_ids={end})
        yield batch.row_ids[0], said, said == target
    model.train()
