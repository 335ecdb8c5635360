"""The arithmetic of memory is what torch holds: of tiny models that are trained a step, and in the guide."""

import gc
import re
import shlex
import sys
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributed
from torch import nn
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toys.batches import RATE
from toys.batches import row
from toys.batches import toy_batch
from toys.encoders import MEL
from toys.encoders import encoder
from transformers import AutoModelForCausalLM
from transformers import LlamaConfig
from transformers import PreTrainedConfig
from transformers import Qwen3Config
from transformers import SmolLM3Config

from speechrows.model import memory as memory_module
from speechrows.model import speech_lm as speech_lm_module
from speechrows.model.memory import Load
from speechrows.model.memory import Memory
from speechrows.model.memory import memory
from speechrows.model.omni import Omni
from speechrows.model.sharding import shard
from speechrows.model.speech_lm import SpeechLM
from speechrows.model.tuning import Tuning
from train import TrainConfig

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # last: its modules have plain names
import memory as table  # type: ignore

torch.set_num_threads(1)

GUIDE = (ROOT / "docs/training.md").read_text("utf-8")
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 88, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 600, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA, SMOLLM = LlamaConfig(**SIZES), SmolLM3Config(**SIZES)
LORA: dict[str, Any] = {"freeze_encoder": True, "lora_rank": 4, "dtype": "bfloat16"}
WAYS: dict[str, tuple[PreTrainedConfig, Tuning]] = {
    "all": (Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True), Tuning()),
    "bf16": (LLAMA, Tuning(mixed_precision="bf16")),
    "bf16, checkpointing": (SMOLLM, Tuning(mixed_precision="bf16", gradient_checkpointing=True)),
    "LoRA": (LLAMA, Tuning(**LORA)),
    "LoRA, checkpointing": (LLAMA, Tuning(**LORA, gradient_checkpointing=True)),
    "projector": (SMOLLM, Tuning(train=("projector",), dtype="bfloat16")),
}
BATCH = toy_batch(*([row(name, 2.0, target=(5, 6, 7, 8) * 4)] for name in "ab"), mel=MEL, pads=0)
LOAD = Load(
    sequences=2, slots=BATCH.input_ids.shape[1], audio_tokens=int(BATCH.num_audio_tokens.sum()),
    supervised=BATCH.num_supervised,
)  # fmt: skip


def prepared(lm: PreTrainedConfig, tuning: Tuning) -> Omni:
    """A tiny model as it is trained, without a config or tokenizer."""
    parts = encoder("whisper"), AutoModelForCausalLM.from_config(lm)
    nothing: Any = None
    model = Omni(SpeechLM(*parts, audio_tokens_per_second=RATE, audio_token_id=1), nothing, nothing, nothing)
    tuning.prepare(model)
    return model.train()


def loss_of(model: Omni, tuning: Tuning) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=tuning.is_half):
        return model(BATCH).losses().sum()


def num_bytes(tensors: Iterable[Tensor | None]) -> int:
    """Of the storages of tensors, each counted once."""
    storages = [tensor.untyped_storage() for tensor in tensors if tensor is not None]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


class Packed:
    """What autograd keeps of a tensor, as long as it keeps it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def kept_by(model: Omni, run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """A loss, and the bytes that are kept for its backward pass, parameters left out."""
    packed = list[weakref.ref[Packed]]()

    def pack(tensor: Tensor) -> Packed:
        packed.append(weakref.ref(kept := Packed(tensor)))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        loss = run()
    gc.collect()
    alive = [kept.tensor for reference in packed if (kept := reference()) is not None]
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    return loss, num_bytes(tensor for tensor in alive if tensor.untyped_storage()._cdata not in parameters)


class Peak(TorchDispatchMode):
    """The most bytes that are in storages at a time, by every operator that makes one."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self.alive, self.now, self.most = dict[int, Any](), 0, 0
        for tensor in tensors:
            self.add(tensor)

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.alive:
            return

        def free(_: Any) -> None:
            self.now -= size
            del self.alive[key]

        self.alive[key] = weakref.ref(storage, free)
        self.now += size
        self.most = max(self.most, self.now)

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        made = function(*arguments, **(named or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return made


@dataclass(frozen=True)
class Measured:
    arithmetic: Memory
    weights: int
    gradients: int
    moments: int
    kept: int
    peak: int
    copies: int  # among what is kept: all of the arithmetic's but those in blocks that are computed again


@pytest.fixture(scope="module", params=WAYS)
def measured(request: pytest.FixtureRequest) -> Measured:
    return measure(*WAYS[request.param])


def measure(lm: PreTrainedConfig, tuning: Tuning) -> Measured:
    """Two steps of a way to train: the second has moments from its start."""
    model = prepared(lm, tuning)
    optimizer = tuning.optimizer(model)
    for group in optimizer.param_groups:
        group["foreach"] = True  # as on accelerators
    loss, kept = kept_by(model, lambda: loss_of(model, tuning))
    loss.backward()
    optimizer.step()
    gradients, moments = gradients_of(model), moments_of(optimizer)
    optimizer.zero_grad()
    del loss
    states = [value for state in optimizer.state.values() for value in state.values()]
    with Peak(chain(model.parameters(), states)) as peak:
        loss_of(model, tuning).backward()
        optimizer.step()
    arithmetic = memory(model, tuning, LOAD)
    weights = num_bytes(model.parameters())
    copies = arithmetic.copies
    if copies and tuning.gradient_checkpointing:
        copies -= num_copied(model)
    return Measured(arithmetic, weights, gradients, moments, kept, peak.most, copies)


def num_copied(model: Omni) -> int:
    """Bytes of autocast's copies of what is in blocks."""
    blocks = model.speech_lm.blocks()
    layers = [layer for block in blocks for layer in block.modules() if isinstance(layer, nn.Linear)]
    return sum(2 * layer.weight.numel() for layer in layers if layer.weight.dtype is torch.float32)


def gradients_of(model: nn.Module) -> int:
    return sum(local(p.grad).nbytes for p in model.parameters() if p.grad is not None)


def moments_of(optimizer: torch.optim.Optimizer) -> int:
    states = optimizer.state.values()
    return sum(local(state[name]).nbytes for state in states for name in ("exp_avg", "exp_avg_sq"))


def local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def test_weights_gradients_and_moments_are_exact(measured: Measured) -> None:
    arithmetic = measured.arithmetic
    held = arithmetic.weights, arithmetic.gradients, arithmetic.moments
    assert held == (measured.weights, measured.gradients, measured.moments)


def test_what_is_kept_for_the_backward_pass_is_what_autograd_keeps(measured: Measured) -> None:
    assert 1 <= (measured.arithmetic.kept + measured.copies) / measured.kept < 1.12


def test_a_step_holds_no_more_than_the_peak_and_over_three_quarters_of_it(measured: Measured) -> None:
    assert 1 <= measured.arithmetic.peak / measured.peak < 4 / 3


@pytest.mark.parametrize("tuning", [Tuning(mixed_precision="bf16"), Tuning(**LORA)], ids=["all", "LoRA"])
def test_logits_that_are_made_part_by_part_are_counted_so(
    tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (memory_module, speech_lm_module):
        monkeypatch.setattr(module, "SLOTS_AT_ONCE", LOAD.supervised // 4)
    held = measure(LLAMA, tuning)
    assert 1 <= (held.arithmetic.kept + held.copies) / held.kept < 1.12
    assert 1 <= held.arithmetic.peak / held.peak < 4 / 3


@pytest.fixture
def eight_ranks() -> Iterator[None]:
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("eight_ranks")
@pytest.mark.parametrize("tuning", [Tuning(shard=True), Tuning(shard=True, **LORA)], ids=["all", "LoRA"])
def test_of_a_model_that_is_divided_a_rank_holds_its_share_and_what_is_in_no_block(tuning: Tuning) -> None:
    model = prepared(LLAMA, tuning)
    arithmetic = memory(model, tuning, LOAD, ranks=8)
    ranks: Any = SimpleNamespace(device=torch.device("cpu"), num_processes=8)
    shard(model, ranks, torch.bfloat16 if tuning.is_half else None)
    optimizer = tuning.optimizer(model)
    weights = sum(local(parameter).nbytes for parameter in model.parameters())
    loss = loss_of(model, tuning)
    whole = [parameter for parameter in model.parameters() if not isinstance(parameter, DTensor)]
    assert {id(parameter) for parameter in whole} >= {*map(id, model.speech_lm.projector.parameters())}
    root = sum(parameter.numel() for parameter in whole) * (2 if tuning.is_half else 4)
    assert root == sum(parameter.nbytes for parameter in whole)
    loss.backward()
    optimizer.step()
    held = weights, gradients_of(model), moments_of(optimizer)
    assert held == (arithmetic.weights, arithmetic.gradients, arithmetic.moments)
    assert arithmetic.copies > root


def test_the_guide_s_table_is_what_the_benchmark_prints() -> None:
    for line in table.lines("llama-omni-small", table.load_of(4096, 1)):
        assert line in GUIDE


CARDS = re.findall(
    r"^On (\d) x (\d+) GB, ([\d.]+) GiB at most:.*\n\n```sh real\n([^`]+)```$", GUIDE, re.MULTILINE
)


@pytest.mark.parametrize(("ranks", "size", "needed", "command"), CARDS, ids=lambda value: value[:3])
def test_the_guide_s_commands_fit_their_cards(ranks: str, size: str, needed: str, command: str) -> None:
    arguments = shlex.split(command.replace("\\\n", " "))
    config = TrainConfig.parse(arguments[arguments.index("--data") :])
    load = table.load_of(config.context, config.batch_size)
    peak = table.needed(config.preset, config, load, int(ranks)).peak / 2**30
    assert f"{peak:.1f}" == needed
    assert peak < 11 / 12 * int(size)
    assert len(CARDS) == 3
