"""The best value of a metric so far: which checkpoint is the best one, and when to stop."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from speechrows.errors import UsageError
from speechrows.errors import did_you_mean

_LARGER = ("exact", "accuracy")  # ends of names of which more is better; of all others less is


@dataclass(kw_only=True, slots=True)
class Best:
    """The best value of the metric `name`, of the evaluations that were added; no metric has the name "".

    With `patience`, so many evaluations without a better value are the end.
    """

    name: str
    patience: int = 0
    value: float = math.nan
    step: int = -1  # of that value
    _last: int = field(default=-1, init=False)  # the step that was evaluated last
    _worse: int = field(default=0, init=False)  # evaluations since the best

    def check(self, names: Sequence[str]) -> None:
        """Check that evaluations give the metric: `names` are those that they give.

        Raises:
            UsageError: they do not.
        """
        if self.name not in names:
            known = ", ".join(names) or "none: give --eval NAME=PATH or --decode N"
            raise UsageError(
                f"--best: found {self.name!r}, expected a value that evaluations give"
                f"{did_you_mean(self.name, names)}. There are {known}"
            )

    def add(self, step: int, report: Mapping[str, Any]) -> bool:
        """Add the evaluation of a step, and say whether it is the best; other reports change nothing."""
        if self.name not in report:
            return False
        if step != self._last:  # a run that has ended and is resumed evaluates its last step again
            value = math.nan if report[self.name] is None else float(report[self.name])
            sign = -1 if self.name.endswith(_LARGER) else 1
            is_better = sign * value < sign * self.value or (math.isnan(self.value) and not math.isnan(value))
            self._last, self._worse = step, 0 if is_better else self._worse + 1
            if is_better:
                self.value, self.step = value, step
        return step == self.step

    @property
    def is_over(self) -> bool:
        """Whether patience is."""
        return 0 < self.patience <= self._worse

    def __str__(self) -> str:
        if not self.name:
            return ""
        best = f"best {self.name} {self.value:.4g} at step {self.step}"
        return best + f"; stopped early, after {self._worse} evaluations without a better one" * self.is_over
