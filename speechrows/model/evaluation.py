"""How good a model is on rows: its loss on each task, and how many rows it says exactly."""

import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from itertools import takewhile

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.loader.loader import Loader
from speechrows.model.lanes import Lanes
from speechrows.model.speech_lm import SpeechLM
from speechrows.rows.tasks import TASKS
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
        path, *rest = re.split(r":(?!//)", place)  # the colon of hf:// parts nothing
        if not (equals and path) or len(rest) > 2:
            raise UsageError(f"evaluation set: found {text!r}, expected NAME=PATH[:CONFIG[:SPLIT]]")
        config, split = (*rest, *(config, "validation")[len(rest) :])
        return EvalSet(name=name, path=path, config=config, split=split)


def open_sets(
    texts: Sequence[str], config: str, open_rows: Callable[[str, str, str], Loader]
) -> dict[str, Loader]:
    """The rows of evaluation sets by name, planned: what is wrong with one is said before training.

    `open_rows` takes path, config and split; for `texts` and `config` see EvalSet.parse.

    Raises:
        UsageError: two have one name, one has no row, or see EvalSet.parse, load.
    """
    found: dict[str, Loader] = {}
    for one in (EvalSet.parse(text, config) for text in texts):
        if one.name in found:
            raise UsageError(f"evaluation set: found {one.name!r} twice, expected a name of each")
        rows = found[one.name] = open_rows(one.path, one.config, one.split)
        if not len(rows):
            raise UsageError(f"evaluation set {one.name}: {one.path} has no row of {one.config} that fits")
    return found


@torch.no_grad()
def text_losses(
    model: nn.Module, batches: Iterable[Batch], lanes: Lanes, total: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """The loss a supervised token of each task that is there.

    `model` is an Omni, wrapped or not; `lanes` are left where the rows leave them; `total` sums a tensor
    over all ranks, which all call.
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
    losses, tokens = total(sums)
    there = zip(TASKS, losses.tolist(), tokens.tolist(), strict=True)
    return {task: loss / count for task, loss, count in there if count}


def _tasks(batch: Batch) -> Tensor:
    """The place in TASKS of each supervised token, row-major."""
    names = [*TASKS]
    owner = torch.zeros(batch.labels.shape, dtype=torch.int64)
    for task, (sequence, start, stop) in zip(batch.tasks, batch.row_spans.tolist(), strict=True):
        owner[sequence, start:stop] = names.index(task)
    return owner[(batch.labels != IGNORE_INDEX).cpu()]


def share_exact(model: SpeechLM, rows: Loader, count: int, tell: Callable[[str], object]) -> float:
    """The share of the first `count` rows that the model says exactly; `tell` is told what it says."""
    found: list[bool] = []
    for row_id, said, is_exact in decoded(model, rows.batches(rows.in_file_order(count))):
        tell(f"{row_id}: {rows.tokenizer.decode(said)}")
        found.append(is_exact)
    return sum(found) / len(found)


@torch.no_grad()
def decoded(model: SpeechLM, batches: Iterable[Batch]) -> Iterator[tuple[str, list[int], bool]]:
    """Of rows, each in a batch alone: name, what the model says greedily, and whether it is the target.

    Where unsupervised tokens stand between targets, as in `usdm` rows, it is the first.
    """
    model.eval()
    for batch in batches:
        labels = dropwhile(_is_ignored, batch.labels[0].tolist())
        *target, end = takewhile(lambda label: not _is_ignored(label), labels)
        (said,) = model.generate(batch, max_new_tokens=len(target) + 8, end_ids={end})
        yield batch.row_ids[0], said, said == target
    model.train()


def _is_ignored(label: int) -> bool:
    return label == IGNORE_INDEX
