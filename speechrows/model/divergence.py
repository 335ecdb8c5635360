"""The error of training whose numbers are no longer finite: where, on which rows, and what to try."""

from collections.abc import Sequence

from torch import Tensor

from speechrows.errors import DivergedError
from speechrows.loader.batch import Batch

MAX_NAMED = 20  # rows


def suspects(batches: Sequence[Batch], losses: Sequence[Tensor]) -> list[tuple[str, bool]]:
    """The id of each row of a step's batches, and whether the loss of its batch [3] is not finite."""
    return [
        (row_id, not bool(loss.isfinite().all()))
        for batch, loss in zip(batches, losses, strict=True)
        for row_id in batch.row_ids
    ]


def diverged(
    what: str, rows: Sequence[tuple[str, bool]], *, learning_rate: float, way_on: str
) -> DivergedError:
    """The error of a step; `rows` are its `suspects`, of all ranks: those to blame are named, else all."""
    named = [*dict.fromkeys(row_id for row_id, is_to_blame in rows if is_to_blame)]
    named = named or [*dict.fromkeys(row_id for row_id, _ in rows)]
    lines = [
        f"{what}, expected finite numbers. Nothing of the step is saved. {way_on}. Try a lower "
        f"--learning-rate (it was {learning_rate:g}), more --warmup-steps or a lower --max-grad-norm"
    ]
    if named:
        lines[0] += "; if the same rows stop it again, look at them with `speechrows show`. Rows of the step:"
        lines += [f"  {row_id}" for row_id in named[:MAX_NAMED]]
        lines += [f"  and {len(named) - MAX_NAMED} more"] * (len(named) > MAX_NAMED)
    return DivergedError("\n".join(lines))
