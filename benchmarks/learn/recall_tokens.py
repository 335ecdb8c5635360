"""Recall over random tokens: the first step shows a value, the last asks for it; attention sees one step.

Four ways: the state carried as a value alone, carried with its gradient, reset at each step, and no layer.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from learn.picture import Chart
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig
from transformers import LlamaForCausalLM

from speechrows.model.ttt import TTTLinear

SHOW, ASK, FIRST_VALUE, NUM_VALUES, FIRST_WORD, VOCABULARY = 1, 2, 4, 10, 20, 40
WIDTH, HEADS = 32, 2
LENGTH, TURNS, BATCH = 32, 2, 64  # tokens of a step, steps of a conversation, conversations


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a state goes from step to step."""

    has_layer: bool = True
    is_carried: bool = True
    has_gradient: bool = False


WAYS = {
    "carried": Way(),
    "gradient": Way(has_gradient=True),
    "reset": Way(is_carried=False, has_gradient=True),
    "none": Way(has_layer=False),
}


class Model(torch.nn.Module):
    """One block of attention inside a step, and a TTT layer above it."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way = way
        config = LlamaConfig(
            hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=1, num_attention_heads=HEADS,
            num_key_value_heads=HEADS, vocab_size=VOCABULARY,
        )  # fmt: skip
        self.lm = LlamaForCausalLM(config)
        self.layer = TTTLinear(WIDTH, HEADS, mini_batch=16) if way.has_layer else None

    def forward(self, steps: Tensor) -> Tensor:
        """The logits [B, vocabulary] of what follows the last token of the last step; steps are [S, B, T]."""
        state: Any = None
        for number, tokens in enumerate(steps):
            hidden = self.lm.model(input_ids=tokens).last_hidden_state
            if self.layer is None:
                continue
            real = torch.ones_like(tokens, dtype=torch.bool)
            begins = number == 0 or not self.way.is_carried
            reset = real & (torch.arange(tokens.shape[1]) == 0) & begins
            hidden, state = self.layer(hidden, attention_mask=real, reset=reset, state=state)
            state = state if self.way.has_gradient else state.detach()
        return self.lm.lm_head(hidden[:, -1])


def conversations(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens [S, B, T], and the values [B] that are shown in the first step and asked for in the last."""
    values = torch.randint(FIRST_VALUE, FIRST_VALUE + NUM_VALUES, (BATCH,), generator=generator)
    steps = torch.randint(FIRST_WORD, VOCABULARY, (TURNS, BATCH, LENGTH), generator=generator)
    places = torch.randint(1, LENGTH - 2, (BATCH,), generator=generator)
    rows = torch.arange(BATCH)
    steps[0, rows, places], steps[0, rows, places + 1] = SHOW, values
    steps[-1, :, -1] = ASK
    return steps, values


@torch.no_grad()
def accuracy(model: Model, generator: torch.Generator, batches: int) -> float:
    """The share of new conversations whose value is recalled."""
    right = [model(steps).argmax(-1) == values for steps, values in
             (conversations(generator) for _ in range(batches))]  # fmt: skip
    return float(torch.cat(right).float().mean())


def learn(way: Way, num_steps: int) -> dict[str, Any]:
    """Train on new conversations at each step; the accuracy on others, on the way and at the end."""
    torch.manual_seed(0)
    generator, others = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    model, started, curve = Model(way), time.perf_counter(), dict[int, float]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    for step in range(1, num_steps + 1):
        steps, values = conversations(generator)
        functional.cross_entropy(model(steps), values).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % (num_steps // 8) == 0:
            curve[step] = accuracy(model, others, 4)
    seconds = time.perf_counter() - started
    return {"accuracy": accuracy(model, others, 20), "steps": num_steps, "seconds": seconds, "curve": curve}


def run(*, quick: bool, work: Path) -> dict[str, Any]:  # noqa: ARG001
    """The figures of each way; by chance one in ten is right."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    print(f"chance: {1 / NUM_VALUES:.2f}\n\n| state | accuracy | steps | s |\n|---|---:|---:|---:|")
    for name, way in WAYS.items():
        figures[name] = figure = learn(way, 80 if quick else 200)
        print(
            f"| {name} | {figure['accuracy']:.2f} | {figure['steps']} | {figure['seconds']:.0f} |", flush=True
        )
    return figures


def chart(figures: dict[str, Any]) -> Chart:
    """Accuracy by step."""
    return Chart(
        title="A value of the step before is asked for: new conversations answered rightly",
        across="optimiser steps",
        places=[*figures["gradient"]["curve"]],
        lines={name: [*figure["curve"].values()] for name, figure in figures.items()},
        most=1.0,
    )
