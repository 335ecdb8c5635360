"""Evaluation of a model on rows: its loss on each task, and the share of rows that it decodes exactly."""

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
from speechrows.errors import printable
from speechrows.loader.batch import Batch
from speechrows.loader.loader import Loader
from speechrows.model.lanes import Lanes
from speechrows.model.speech_lm import SpeechLM
from speechrows.rows.tasks import TASKS
from speechrows.types import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSet:
    """A named set of rows to evaluate on."""

    name: str
    path: str
    config: str
    split: str

    @staticmethod
    def parse(text: str, config: str) -> "EvalSet":
        """Parse NAME=PATH[:CONFIG[:SPLIT]]; by default CONFIG is `config` and SPLIT `validation`."""
        name, equals, place = text.partition("=")
        path, *rest = re.split(r":(?!//)", place)  # the colon of hf:// separates nothing
        if not (equals and path) or len(rest) > 2:
            raise UsageError(f"evaluation set: found {text!r}, expected NAME=PATH[:CONFIG[:SPLIT]]")
        config, split = (*rest, *(config, "validation")[len(rest) :])
        return EvalSet(name=name, path=path, config=config, split=split)


def open_sets(
    texts: Sequence[str], config: str, open_rows: Callable[[str, str, str], Loader]
) -> dict[str, Loader]:
    """Open and plan evaluation sets, by name, so that errors come before training.

    `open_rows` takes path, config and split; for `texts` and `config` see EvalSet.parse.

    Raises:
        UsageError: two have one name, one has no row, or see EvalSet.parse, load.
    """
    sets: dict[str, Loader] = {}
    for parsed in (EvalSet.parse(text, config) for text in texts):
        if parsed.name in sets:
            raise UsageError(f"evaluation set: found {parsed.name!r} twice, expected a name of each")
        rows = sets[parsed.name] = open_rows(parsed.path, parsed.config, parsed.split)
        if not len(rows):
            raise UsageError(
                f"evaluation set {parsed.name}: {parsed.path} has no row of {parsed.config} that fits"
            )
    return sets


@torch.no_grad()
def text_losses(
    model: nn.Module, batches: Iterable[Batch], lanes: Lanes, total: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """The mean loss of a supervised token, for each task in the batches.

    `model` is an Omni, wrapped or not; `lanes` keep the states after the last batch; `total` sums a
    tensor over all ranks, and all ranks call this.
    """
    model.eval()
    sums = torch.zeros(2, len(TASKS), dtype=torch.float64)
    for batch in batches:
        output = model(batch, lanes.states(batch)).text
        lanes.keep(batch, output.states)
        losses = functional.cross_entropy(output.logits.float(), output.targets, reduction="none")
        of_tasks = _tasks(batch)
        sums[0].index_add_(0, of_tasks, losses.double().cpu())
        sums[1].index_add_(0, of_tasks, torch.ones_like(of_tasks, dtype=torch.float64))
    model.train()
    losses, tokens = total(sums)
    by_task = zip(TASKS, losses.tolist(), tokens.tolist(), strict=True)
    return {task: loss / count for task, loss, count in by_task if count}


def _tasks(batch: Batch) -> Tensor:
    """The index in TASKS of the task of each supervised token, row-major."""
    names = [*TASKS]
    owner = torch.zeros(batch.labels.shape, dtype=torch.int64)
    for task, (sequence, start, stop) in zip(batch.tasks, batch.row_spans.tolist(), strict=True):
        owner[sequence, start:stop] = names.index(task)
    return owner[(batch.labels != IGNORE_INDEX).cpu()]


def share_exact(model: SpeechLM, rows: Loader, count: int, tell: Callable[[str], object]) -> float:
    """The share of the first `count` rows that the model decodes exactly; `tell` gets a line for each."""
    are_exact: list[bool] = []
    for row_id, tokens, is_exact in decoded(model, rows.batches(rows.in_file_order(count))):
        tell(printable(f"{row_id}: {rows.tokenizer.decode(tokens)}"))
        are_exact.append(is_exact)
    return sum(are_exact) / len(are_exact)


@torch.no_grad()
def decoded(model: SpeechLM, batches: Iterable[Batch]) -> Iterator[tuple[str, list[int], bool]]:
    """Decode rows, one a batch, greedily: row_id, the model's tokens, and whether they are the target.

    Of several targets with unsupervised tokens between them, as in `usdm` rows, the first is decoded.
    """
    model.eval()
    for batch in batches:
        labels = dropwhile(_is_ignored, batch.labels[0].tolist())
        *target, end = takewhile(lambda label: not _is_ignored(label), labels)
        (tokens,) = model.generate(batch, max_new_tokens=len(target) + 8, end_ids={end})
        yield batch.row_ids[0], tokens, tokens == target
    model.train()


def _is_ignored(label: int) -> bool:
    return label == IGNORE_INDEX
