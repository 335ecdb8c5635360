"""What stages.py promises: a stage's learning rate at any step, as if it had come there step by step."""

import pytest
import torch

from speechrows.model.stages import Stage
from speechrows.model.stages import schedule_of

STAGE = Stage(config="stage_1", learning_rate=1e-3, steps=12, warmup_steps=4)


def optimizer_of() -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = STAGE.learning_rate
    return optimizer


@pytest.mark.parametrize("name", ["constant", "constant_with_warmup", "linear", "cosine"])
def test_a_schedule_that_is_gone_on_with_has_the_rates_of_one_that_never_stopped(name: str) -> None:
    straight = schedule_of(name, optimizer := optimizer_of(), STAGE, 0)
    for step in range(1, STAGE.steps + 1):
        optimizer.step()
        straight.step()
        resumed = schedule_of(name, other := optimizer_of(), STAGE, step)
        assert resumed.get_last_lr() == straight.get_last_lr()
        assert [group["lr"] for group in other.param_groups] == straight.get_last_lr()
