"""Evaluation of a model on rows, by task: losses, errors of what it decodes, how well it knows codes."""

import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.loader.batch import Batch
from speechrows.loader.loader import Loader
from speechrows.model.codes import CodeSums
from speechrows.model.codes import measures as code_measures
from speechrows.model.lanes import Lanes
from speechrows.model.omni import Omni
from speechrows.model.speech_lm import SpeechLM
from speechrows.model.transcripts import TRANSCRIBED
from speechrows.rows.tasks import TASKS
from speechrows.text.word_errors import errors
from speechrows.types import IGNORE_INDEX
from speechrows.types import Int32


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a run is judged on: named sets, and how many rows of each and of training are decoded.

    All ranks share the work and get the same values: `share` is a rank's number and how many there are,
    `total` sums a tensor over them. `tell` gets a line for each training row that is decoded.
    """

    model: Omni
    sets: Mapping[str, Loader]
    decode: int  # rows of each set, spread over it
    training: Loader | None  # of which the first `decode_training` rows are decoded
    decode_training: int
    share: tuple[int, int]
    total: Callable[[Tensor], Tensor]
    tell: Callable[[str], object]

    def names(self) -> list[str]:
        """The names of all values that a report has, known before there is one."""
        names = list[str]()
        for name, rows in self.sets.items():
            measures = {task: ["text_loss"] for task in _tasks_of(rows, rows.plan.rows)}
            if (head := self.model.audio_head) is not None and rows.codec():
                for task in measures:
                    with_codes = TASKS[task].codec_targets and TASKS[task].needs != "units"
                    measures[task] += code_measures(head.spec.num_codebooks) if with_codes else []
            for task in _tasks_of(rows, _spread(rows, self.decode)):
                measures[task] += ["wer", "cer"] if task in TRANSCRIBED else ["exact"]
            names += [f"{name}/{task}/{measure}" for task in measures for measure in measures[task]]
        return names + ["train/exact"] * (self.training is not None)

    def report(self, lanes: Lanes) -> dict[str, float]:
        """The values, by SET/TASK/MEASURE; `lanes` are as many as the run has, in any state."""
        report = dict[str, float]()
        for name, rows in self.sets.items():
            rows.set_epoch(0)
            values = losses(self.model, rows, lanes.afresh(), self.total)
            if self.decode:
                values |= self._of_texts(rows)
            report |= {f"{name}/{measure}": value for measure, value in values.items()}
        if self.training is not None:
            speech_lm = self.model.speech_lm
            report["train/exact"] = share_exact(speech_lm, self.training, self.decode_training, self.tell)
        return report

    def _of_texts(self, rows: Loader) -> dict[str, float]:
        """Errors of transcripts, the share of other answers that are exact, on a sample of rows."""
        texts = {task: (list[str](), list[str]()) for task in TASKS}  # expected, decoded
        sums = torch.zeros(len(TASKS), 4, dtype=torch.float64)
        rank, num_ranks = self.share
        for row in decoded(self.model.speech_lm, rows, _spread(rows, self.decode)[rank::num_ranks]):
            for side, tokens in zip(texts[row.task], (row.target, row.tokens), strict=True):
                side.append(str(rows.tokenizer.decode(tokens, skip_special_tokens=True)))
            if row.task not in TRANSCRIBED:
                sums[[*TASKS].index(row.task)] += torch.tensor([row.is_exact, 1, 0, 0])
        for number, task in enumerate(TASKS):
            if task in TRANSCRIBED and texts[task][0]:
                sums[number] = torch.tensor(errors(*texts[task]))
        values = dict[str, float]()
        for task, counts in zip(TASKS, self.total(sums).tolist(), strict=True):
            measures = ("wer", "cer") if task in TRANSCRIBED else ("exact",)
            for measure, count, of in zip(measures, counts[::2], counts[1::2], strict=False):
                values |= {f"{task}/{measure}": count / of} if of else {}
        return values


@torch.no_grad()
def losses(
    model: Omni, batches: Iterable[Batch], lanes: Lanes, total: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """The mean loss of a supervised token, and what CodeSums has of codes, for each task in the batches.

    `lanes` keep the states after the last batch; `total` sums a tensor over all ranks, and all ranks call
    this.
    """
    model.eval()
    sums = torch.zeros(2, len(TASKS), dtype=torch.float64)
    codes = None if model.audio_head is None else CodeSums(model.audio_head)
    for batch in batches:
        output = model.speech_lm(batch, lanes.states(batch))
        lanes.keep(batch, output.states)
        of_tasks = _tasks(batch)
        sums[0].index_add_(0, of_tasks, output.token_losses.double().cpu())
        sums[1].index_add_(0, of_tasks, torch.ones_like(of_tasks, dtype=torch.float64))
        if codes is not None:
            codes.add(output.hidden_states, batch)
    model.train()
    sums_of_all, tokens = total(sums)
    by_task = zip(TASKS, sums_of_all.tolist(), tokens.tolist(), strict=True)
    values = {f"{task}/text_loss": loss / count for task, loss, count in by_task if count}
    return values if codes is None else values | codes.report(total)


def _tasks(batch: Batch) -> Tensor:
    """The index in TASKS of the task of each supervised token, row-major."""
    names = [*TASKS]
    owner = torch.zeros(batch.labels.shape, dtype=torch.int64)
    for task, (sequence, start, stop) in zip(batch.tasks, batch.row_spans.tolist(), strict=True):
        owner[sequence, start:stop] = names.index(task)
    return owner[(batch.labels != IGNORE_INDEX).cpu()]


def _tasks_of(rows: Loader, numbers: Int32) -> list[str]:
    """The tasks of some rows."""
    index = rows.index
    return [*dict.fromkeys(index.shards[shard].task for shard in np.unique(index.shard[numbers]).tolist())]


def _spread(rows: Loader, count: int) -> Int32:
    """The numbers of `count` rows that fit, or all, at equal distances in file order."""
    fitting = np.sort(rows.plan.rows)
    count = min(count, len(fitting))
    return fitting[np.arange(count) * len(fitting) // max(1, count)]


def share_exact(model: SpeechLM, rows: Loader, count: int, tell: Callable[[str], object]) -> float:
    """The share of the first `count` rows that the model decodes exactly; `tell` gets a line for each."""
    are_exact: list[bool] = []
    for row in decoded(model, rows, np.sort(rows.plan.rows)[:count]):
        tell(printable(f"{row.row_id}: {rows.tokenizer.decode(row.tokens)}"))
        are_exact.append(row.is_exact)
    return sum(are_exact) / len(are_exact)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A row that a model has decoded: its tokens, and those that the row has, without the end token."""

    row_id: str
    task: str
    tokens: list[int]
    target: list[int]

    @property
    def is_exact(self) -> bool:
        """Whether they are the same."""
        return self.tokens == self.target


@torch.no_grad()
def decoded(model: SpeechLM, rows: Loader, numbers: Int32) -> Iterator[Decoded]:
    """Decode some rows, one by one, greedily: each after what stands before it in its segment and fits.

    Of several targets with unsupervised tokens between them, as in `usdm` rows, the first is decoded.
    """
    model.eval()
    for batch in rows.batches(rows.with_rows_before(numbers.tolist())):
        sequence, start, stop = batch.row_spans[-1].tolist()
        labels = dropwhile(_is_ignored, batch.labels[sequence, start:stop].tolist())
        *target, end = takewhile(lambda label: not _is_ignored(label), labels)
        row = slice(len(batch) - 1, None)
        (tokens,) = model.generate(batch, max_new_tokens=len(target) + 8, end_ids={end}, rows=row).tokens
        yield Decoded(row_id=batch.row_ids[-1], task=batch.tasks[-1], tokens=tokens, target=target)
    model.train()


def _is_ignored(label: int) -> bool:
    return label == IGNORE_INDEX
