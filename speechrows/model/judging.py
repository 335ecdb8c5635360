"""What a trainer's model is judged on, as flags of its command line."""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import FSDPModule

from speechrows.errors import UsageError
from speechrows.flags import flag
from speechrows.loader.loader import Loader
from speechrows.model.best import Best
from speechrows.model.evaluation import Evaluation
from speechrows.model.evaluation import open_sets
from speechrows.model.ranks import total

CONFIG = "ttt"  # where none is given


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Sets to evaluate on, and what follows from them. Each field is a flag."""

    config: str = flag("", "the config to train on, and by default to evaluate on; else ttt")
    eval: tuple[str, ...] = flag((), "NAME=PATH[:CONFIG[:SPLIT]], a set to evaluate on; repeatable")
    eval_every: int = flag(0, "steps; 0: at the end alone", least=0)
    eval_decode: int = flag(0, "rows of each set to decode greedily, for WER, CER or exact matches", least=0)
    decode: int = flag(0, "training rows to decode greedily; exact matches are train/exact", least=0)
    best: str = flag("", "the metric, such as held-out/ttt/wer, whose best checkpoint is kept as best")
    patience: int = flag(0, "evaluations without a better --best, then stop; 0: never", least=0)

    def evaluation(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        open_rows: Callable[[Any, str, str], Loader],
        training: tuple[Sequence[str], str, str],
    ) -> Evaluation:
        """The evaluation of a model, wrapped or not, whose rows are opened now: see open_sets.

        `open_rows` takes path, config and split, as `training` is, the rows that are trained on.
        """
        num_ranks = accelerator.num_processes
        return Evaluation(
            model=accelerator.unwrap_model(model),
            sets=open_sets(self.eval, self.config or CONFIG, open_rows),
            decode=self.eval_decode,
            training=open_rows(*training) if self.decode else None,
            decode_training=self.decode,
            # Ranks that share weights decode the same rows: else one would wait for weights that others need.
            share=(0, 1) if isinstance(model, FSDPModule) else (accelerator.process_index, num_ranks),
            total=partial(total, accelerator),
            tell=accelerator.print,
        )

    def open_best(self) -> Best:
        """The best value of --best, before there is one.

        Raises:
            UsageError: --patience is given without it.
        """
        if self.patience and not self.best:
            raise UsageError("--patience: found no --best, expected the metric that is to become better")
        return Best(name=self.best, patience=self.patience)
