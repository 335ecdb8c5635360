"""The test-time-training layer: cuts and pads change nothing, and what it does is gradient descent."""

import io
from dataclasses import dataclass
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toys.building import build_rows
from toys.examples import MANY
from toys.samples import XTTS

from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan_rows import plan_rows
from speechrows.model.ttt import TTTLinear
from speechrows.model.ttt import TTTState
from speechrows.model.ttt_published import load_published

WIDTH, HEADS, SIZE = 8, 2, 4  # of the toy layer, and the tokens of its mini-batch
EXACT = {torch.float32: 1e-5, torch.float64: 1e-10}


def toy(dtype: torch.dtype = torch.float64, *, size: int = SIZE) -> TTTLinear:
    """A layer in which every parameter says something."""
    layer = TTTLinear(WIDTH, HEADS, mini_batch=size)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return layer.to(dtype)


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def in_one_piece(layer: TTTLinear, x: Tensor) -> tuple[Tensor, TTTState]:
    """A conversation [T, D] alone in a lane, without pads."""
    mask = torch.ones(1, len(x), dtype=torch.bool)
    y, state = layer(x[None], attention_mask=mask, reset=mask & (torch.arange(len(x)) == 0))
    return y[0], state


# --- the layer as its papers tell it ------------------------------------------------------------


def turned(x: Tensor, place: int) -> Tensor:
    """Rotary positions of [H, d] as complex numbers."""
    low, high = x.chunk(2, dim=-1)
    half = low.shape[-1]
    angle = place * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    both = torch.complex(low, high) * torch.polar(torch.ones_like(angle), angle).to(
        torch.complex(low, high).dtype
    )
    return torch.cat((both.real, both.imag), dim=-1)


def inner_norm(layer: TTTLinear, z: Tensor) -> Tensor:
    normed = torch.nn.functional.layer_norm(z, z.shape[-1:], eps=1e-6)
    return normed * layer.inner_norm_weight.to(z.dtype) + layer.inner_norm_bias.to(z.dtype)


def by_token(layer: TTTLinear, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A conversation [T, D] by gradient descent on the inner loss, token by token: y, and W, b at the end."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    normed = layer.norm(x.to(layer.norm.weight.dtype))
    q, k, v = (
        part(normed).to(dtype).reshape(len(x), layer.num_heads, -1)
        for part in (layer.query, layer.key, layer.value)
    )
    rates = layer.rate(normed).to(dtype).sigmoid() * layer.base_learning_rate
    weight, bias = now = layer.first_weight.to(dtype), layer.first_bias.to(dtype)
    outputs = []
    with torch.autocast("cpu", enabled=False):
        for t in range(len(x)):
            place = t % layer.mini_batch
            if place == 0:
                weight, bias = now
                total = torch.zeros_like(weight), torch.zeros_like(bias)
            key, query = turned(k[t], place), turned(q[t], place)
            loss = (
                inner_norm(layer, torch.einsum("hi,hij->hj", key, weight) + bias) - (v[t] - key)
            ).square().sum() / 2
            steps = torch.autograd.grad(loss, (weight, bias), create_graph=True)
            rate = rates[t, :, None]
            total = total[0] + rate[..., None] * steps[0], total[1] + rate * steps[1]
            scale = (1 / (place + 1) + layer.position_offset[place].to(dtype)).clamp(min=0)
            now = weight - scale * total[0], bias - scale * total[1]
            answer = inner_norm(layer, torch.einsum("hi,hij->hj", query, now[0]) + now[1])
            outputs.append((query + answer).flatten())
    read = torch.stack(outputs).to(layer.norm.weight.dtype)
    return x + (layer.gate * layer.output(layer.output_norm(read))).to(x.dtype), *now


@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 8, 18])
@pytest.mark.parametrize("dtype", EXACT, ids=str)
def test_outputs_and_states_are_those_of_gradient_descent_token_by_token(
    dtype: torch.dtype, tokens: int
) -> None:
    layer, x = toy(dtype), noise(tokens, WIDTH, dtype=dtype)
    expected, weight, bias = by_token(layer, x)
    y, state = in_one_piece(layer, x)
    torch.testing.assert_close(y, expected, rtol=0, atol=EXACT[dtype])
    assert y.dtype == dtype
    assert state.num_carried.tolist() == [tokens % SIZE]
    assert torch.equal(state.carried[0, : tokens % SIZE], x[tokens - tokens % SIZE :])
    if tokens % SIZE == 0:
        torch.testing.assert_close(
            (state.weight[0], state.bias[0]), (weight, bias), rtol=0, atol=EXACT[dtype]
        )


def test_every_parameter_gets_the_gradient_of_gradient_descent_token_by_token() -> None:
    layer, x = toy(), noise(11, WIDTH).requires_grad_()
    inputs = [*layer.parameters(), x]
    target = noise(11, WIDTH, seed=1)
    expected = torch.autograd.grad((by_token(layer, x)[0] * target).sum(), inputs)
    gradients = torch.autograd.grad((in_one_piece(layer, x)[0] * target).sum(), inputs)
    for gradient, other in zip(gradients, expected, strict=True):
        assert gradient.abs().max() > 1e-6
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-9)


def test_what_is_computed_again_and_not_kept_has_the_same_gradient() -> None:
    layer, x = toy(), noise(8 * SIZE + 3, WIDTH).requires_grad_()
    inputs = [*layer.parameters(), x]
    kept: dict[int, int] = {}
    gradients: dict[int, tuple[Tensor, ...]] = {}
    for layer.checkpoint in (0, 1, 3):
        storages: dict[int, int] = {}

        def keep(tensor: Tensor, storages: dict[int, int] = storages) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y, state = in_one_piece(layer, x)
        gradients[layer.checkpoint] = torch.autograd.grad((y.square().sum() + state.weight.sum()), inputs)
        kept[layer.checkpoint] = sum(storages.values())
    for gradient, *others in zip(*gradients.values(), strict=True):
        for other in others:
            torch.testing.assert_close(gradient, other, rtol=0, atol=1e-12)
    assert kept[3] < 0.7 * kept[0]


# --- cuts and pads ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """What B lanes read: the lengths of each one's conversations, and how it is cut and padded."""

    lengths: list[list[int]]
    num_steps: int
    seed: int

    def conversations(self, dtype: torch.dtype) -> list[list[Tensor]]:
        return [
            [noise(n, WIDTH, dtype=dtype, seed=100 * lane + i) for i, n in enumerate(lengths)]
            for lane, lengths in enumerate(self.lengths)
        ]


@dataclass(frozen=True, kw_only=True)
class Step:
    x: Tensor
    mask: Tensor
    reset: Tensor


LANES = st.builds(
    Lanes,
    lengths=st.lists(st.lists(st.integers(1, 3 * SIZE + 1), min_size=1, max_size=4), min_size=1, max_size=3),
    num_steps=st.integers(1, 7),
    seed=st.integers(0, 2**32 - 1),
)


def steps_of(lanes: Lanes, dtype: torch.dtype, *, most_pads: int = 6) -> list[Step]:
    """The lanes cut into steps at random, pads of any value put in at random."""
    rng = np.random.default_rng(lanes.seed)
    streams = [torch.cat(pieces) for pieces in lanes.conversations(dtype)]
    cuts = [[0, *sorted(rng.integers(0, len(x) + 1, lanes.num_steps - 1)), len(x)] for x in streams]
    firsts = [np.cumsum([0, *lengths[:-1]]) for lengths in lanes.lengths]
    outputs = []
    for number in range(lanes.num_steps):
        spans = [cut[number : number + 2] for cut in cuts]
        num_slots = max(end - begin for begin, end in spans) + int(rng.integers(0, most_pads + 1))
        shape = len(streams), num_slots
        mask, reset = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        x = 100 * noise(*shape, WIDTH, dtype=dtype, seed=number)
        for lane, (begin, end) in enumerate(spans):
            slots = np.sort(rng.permutation(num_slots)[: end - begin])
            mask[lane, slots] = True
            reset[lane, slots] = torch.from_numpy(np.isin(np.arange(begin, end), firsts[lane]))
            x[lane, slots] = streams[lane][begin:end]
        outputs.append(Step(x=x, mask=mask, reset=reset))
    return outputs


def read(layer: TTTLinear, steps: list[Step], state: TTTState | None = None) -> tuple[list[Tensor], TTTState]:
    """The outputs [T, D] of each lane's tokens, all steps' together."""
    by_lane: list[list[Tensor]] = [[] for _ in steps[0].x]
    for step in steps:
        y, state = layer(step.x, attention_mask=step.mask, reset=step.reset, state=state)
        assert torch.equal(y[~step.mask], step.x[~step.mask])
        for lane, outputs in enumerate(by_lane):
            outputs.append(y[lane, step.mask[lane]])
    assert state is not None
    return [torch.cat(outputs) for outputs in by_lane], state


@MANY
@given(LANES, st.sampled_from(sorted(EXACT, key=str)), st.booleans())
@torch.no_grad()
def test_cut_and_padded_anywhere_a_conversation_has_the_outputs_of_one_piece(
    lanes: Lanes, dtype: torch.dtype, is_new: bool
) -> None:
    layer = toy(dtype)
    outputs, state = read(
        layer, steps_of(lanes, dtype), None if is_new else layer.new_state(len(lanes.lengths))
    )
    for lane, conversations in enumerate(lanes.conversations(dtype)):
        pieces = [in_one_piece(layer, x) for x in conversations]
        torch.testing.assert_close(
            outputs[lane], torch.cat([y for y, _ in pieces]), rtol=0, atol=EXACT[dtype]
        )
        for field in fields(TTTState):  # the lane stands where its last conversation stands
            actual, other = getattr(state, field.name)[lane], getattr(pieces[-1][1], field.name)[0]
            torch.testing.assert_close(actual, other, rtol=0, atol=EXACT[dtype])


@torch.no_grad()
def test_a_conversation_read_token_by_token_has_the_outputs_of_one_piece() -> None:
    layer, x = toy(), noise(3 * SIZE + 2, WIDTH)
    reset = torch.ones(1, 1, dtype=torch.bool)
    steps = [Step(x=token[None, None], mask=reset, reset=reset & (t == 0)) for t, token in enumerate(x)]
    torch.testing.assert_close(read(layer, steps)[0][0], in_one_piece(layer, x)[0], rtol=0, atol=1e-10)


@torch.no_grad()
def test_pads_in_the_middle_change_neither_outputs_nor_state_whatever_they_hold() -> None:
    layer, x = toy(), noise(2 * SIZE + 1, WIDTH)
    mask = torch.ones(1, 3 * SIZE, dtype=torch.bool)
    mask[0, [0, SIZE, SIZE + 1]] = False
    padded = torch.full((1, 3 * SIZE, WIDTH), torch.nan, dtype=torch.float64)
    padded[mask] = x
    y, state = layer(padded, attention_mask=mask, reset=mask & (mask.cumsum(1) == 1))
    expected, expected_state = in_one_piece(layer, x)
    torch.testing.assert_close(y[mask], expected, rtol=0, atol=1e-10)
    assert y[~mask].isnan().all()
    for field in fields(TTTState):
        actual, other = getattr(state, field.name), getattr(expected_state, field.name)
        torch.testing.assert_close(actual, other, rtol=0, atol=1e-10)


@torch.no_grad()
def test_conversations_of_a_lane_do_not_see_each_other() -> None:
    layer = toy()
    lanes = Lanes(lengths=[[7, 6, 9], [5, 3]], num_steps=3, seed=5)
    steps = steps_of(lanes, torch.float64)
    before, _ = read(layer, steps)
    is_second = [(torch.arange(sum(n)) >= n[0]) & (torch.arange(sum(n)) < n[0] + n[1]) for n in lanes.lengths]
    seen = [0, 0]
    for step in steps:
        for lane in range(2):
            num = int(step.mask[lane].sum())
            changed = is_second[lane][seen[lane] : seen[lane] + num]
            step.x[lane, step.mask[lane].nonzero()[changed][:, 0]] += 1.0
            seen[lane] += num
    after, _ = read(layer, steps)
    for first, other, second in zip(before, after, is_second, strict=True):
        assert torch.equal(first[~second], other[~second])
        assert (first[second] != other[second]).any(-1).all()


@torch.no_grad()
def test_a_reset_at_a_pad_holds_for_the_token_after_it_in_this_step_or_a_later_one() -> None:
    layer, x = toy(), noise(1, SIZE + 3, WIDTH)
    mask = torch.ones(1, SIZE + 3, dtype=torch.bool)
    mask[0, SIZE + 1] = False
    reset = torch.zeros_like(mask)
    reset[0, SIZE + 1] = True
    expected = in_one_piece(layer, x[0, SIZE + 2 :])[0]
    y, _ = layer(x, attention_mask=mask, reset=reset)
    torch.testing.assert_close(y[0, SIZE + 2 :], expected, rtol=0, atol=1e-10)
    steps = [Step(x=x[:, span], mask=mask[:, span], reset=reset[:, span])
             for span in (slice(0, SIZE + 2), slice(SIZE + 2, None))]  # fmt: skip
    torch.testing.assert_close(read(layer, steps)[0][0][-1:], expected, rtol=0, atol=1e-10)


# --- states -------------------------------------------------------------------------------------


@torch.no_grad()
def test_states_saved_by_lane_go_on_in_any_order_of_lanes() -> None:
    layer = toy(torch.float32)
    steps = steps_of(Lanes(lengths=[[14], [5, 6], [9, 2]], num_steps=4, seed=2), torch.float32)
    _, state = read(layer, steps[:2])
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    loaded = TTTState(**torch.load(file, weights_only=True))
    assert len(loaded) == 3
    order = torch.tensor([2, 0, 1])
    turned_steps = [Step(x=s.x[order], mask=s.mask[order], reset=s.reset[order]) for s in steps[2:]]
    outputs, after = read(layer, turned_steps, loaded.select(order).to("cpu"))
    expected, expected_after = read(layer, steps[2:], state)
    whole = state.replaced(order, after)
    for place, lane in enumerate(order.tolist()):
        torch.testing.assert_close(outputs[place], expected[lane], rtol=0, atol=1e-6)
    torch.testing.assert_close(whole.state_dict(), expected_after.state_dict(), rtol=0, atol=1e-6)
    part = state.replaced(order[:1], after.select(torch.tensor([0])))
    assert torch.equal(part.weight[:2], state.weight[:2])
    assert torch.equal(part.weight[2], after.weight[0])


def test_a_gradient_reaches_what_was_read_in_the_step_before_unless_the_state_is_detached() -> None:
    layer = toy()
    x, mask = noise(2, SIZE + 2, WIDTH), torch.ones(2, SIZE + 2, dtype=torch.bool)
    first = mask & (torch.arange(SIZE + 2) == 0)
    _, state = layer(x.requires_grad_(), attention_mask=mask, reset=first)
    for before, is_reached in ((state.detach(), False), (state, True)):
        x.grad = None
        real = mask[:, :SIZE]
        y, _ = layer(noise(2, SIZE, WIDTH, seed=1), attention_mask=real, reset=~real, state=before)
        y.square().sum().backward()
        assert (x.grad is not None) is is_reached
    assert x.grad[:, 0].any()


def test_gradients_reach_the_first_state_from_resets_alone() -> None:
    layer = toy()
    x, mask = noise(2, SIZE + 2, WIDTH), torch.ones(2, SIZE + 2, dtype=torch.bool)
    first = mask & (torch.arange(SIZE + 2) == 0)
    _, state = layer(x, attention_mask=mask, reset=first)
    state = state.detach()
    for reset, is_reached in ((mask & False, False), (first, True)):
        layer.zero_grad()
        y, _ = layer(x, attention_mask=mask, reset=reset, state=state)
        y.square().sum().backward()
        assert bool(layer.first_weight.grad.any()) is is_reached
        assert bool(layer.first_bias.grad.any()) is is_reached
        assert layer.key.weight.grad.any()


@pytest.mark.parametrize("lanes", [0, 2])
@pytest.mark.parametrize("slots", [0, 5])
def test_a_step_without_tokens_leaves_states_as_they_are_and_gives_every_parameter_a_gradient_of_zero(
    lanes: int, slots: int
) -> None:
    layer = toy()
    _, state = read(layer, steps_of(Lanes(lengths=[[7], [6]], num_steps=1, seed=0), torch.float64))
    none = torch.zeros(lanes, slots, dtype=torch.bool)
    x = noise(lanes, slots, WIDTH)
    state = state.select(torch.arange(lanes))
    y, after = layer(x, attention_mask=none, reset=none, state=state)
    assert torch.equal(y, x)
    y.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in layer.parameters())
    for name, tensor in state.state_dict().items():
        assert torch.equal(after.state_dict()[name], tensor)


@pytest.mark.parametrize("is_autocast", [True, False])
def test_of_bfloat16_inputs_the_state_and_the_inner_loop_are_float32(is_autocast: bool) -> None:
    layer = toy(torch.float32 if is_autocast else torch.bfloat16)
    x = noise(10 * SIZE, WIDTH, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        y, state = in_one_piece(layer, x)
        _, weight, bias = by_token(layer, x)
        mask = torch.ones(1, 1, dtype=torch.bool)
        _, later = layer(x[None, :1], attention_mask=mask, reset=~mask, state=state)
    assert y.dtype == torch.bfloat16
    assert {state.weight.dtype, state.bias.dtype, later.carried.dtype} == {torch.float32}
    torch.testing.assert_close((state.weight[0], state.bias[0]), (weight, bias), rtol=0, atol=1e-5)
    assert torch.equal(later.carried[0, 0].bfloat16(), x[0])


def test_a_new_layer_changes_little_and_passes_a_gradient_on() -> None:
    torch.manual_seed(0)
    layer, x = TTTLinear(64, 4), noise(9, 64, dtype=torch.float32)
    y, _ = in_one_piece(layer, x)
    assert 0 < (y - x).norm() < 0.2 * x.norm()
    y.square().sum().backward()
    assert all(parameter.grad.any() for parameter in (layer.query.weight, layer.value.weight, layer.gate))


# --- the layer as it was published -----------------------------------------------------------------

# Inputs, parameters by our names, outputs and gradients of the published layer.
PUBLISHED = Path(__file__).with_name("ttt_linear_published.npz")


def published() -> tuple[TTTLinear, dict[str, Tensor]]:
    values = {name: torch.tensor(array) for name, array in np.load(PUBLISHED).items()}
    layer = TTTLinear(64, 4, mini_batch=16).double()
    torch.nn.init.ones_(layer.gate)
    return layer, values


def test_outputs_and_gradients_are_those_of_the_published_layer() -> None:
    layer, values = published()
    parameters = {name[6:]: value for name, value in values.items() if name.startswith("param.")}
    assert layer.load_state_dict(parameters, strict=False).missing_keys == ["gate"]
    mask = torch.ones(values["x"].shape[:2], dtype=torch.bool)
    first = mask & (torch.arange(mask.shape[1]) == 0)
    y, _ = layer(values["x"], attention_mask=mask, reset=first)
    torch.testing.assert_close(y, values["y"], rtol=0, atol=1e-6)  # theirs keeps constants in float32
    (y * values["weights_of_loss"]).sum().backward()
    for name, parameter in layer.named_parameters():
        if f"grad.{name}" in values:
            torch.testing.assert_close(parameter.grad, values[f"grad.{name}"], rtol=1e-6, atol=1e-5)


def as_published(layer: TTTLinear) -> dict[str, Tensor]:
    """A layer's weights in the published order of dimensions: pairs of neighbours are rotated."""
    width = layer.first_weight.shape[-1]
    order = torch.arange(width).view(2, -1).T.flatten()
    of_all = (torch.arange(layer.num_heads)[:, None] * width + order).flatten()
    block = "seq_modeling_block."
    return {
        "seq_norm.weight": layer.norm.weight,
        **{f"{block}{n[0]}_proj.weight": getattr(layer, n).weight[of_all] for n in ("query", "key", "value")},
        f"{block}o_proj.weight": layer.output.weight[:, of_all],
        f"{block}learnable_ttt_lr_weight": layer.rate.weight[:, None],
        f"{block}learnable_ttt_lr_bias": layer.rate.bias[:, None],
        f"{block}learnable_token_idx": layer.position_offset,
        f"{block}ttt_norm_weight": layer.inner_norm_weight[:, order],
        f"{block}ttt_norm_bias": layer.inner_norm_bias[:, order],
        f"{block}W1": layer.first_weight[:, order][:, :, order],
        f"{block}b1": layer.first_bias[:, None, order],
        f"{block}post_norm.weight": layer.output_norm.weight[of_all],
        f"{block}post_norm.bias": layer.output_norm.bias[of_all],
    }


def test_published_weights_load_and_give_the_published_outputs() -> None:
    layer, values = published()
    layer.load_state_dict({n[6:]: v for n, v in values.items() if n.startswith("param.")}, strict=False)
    saved = {f"model.layers.3.{name}": tensor.detach() for name, tensor in as_published(layer).items()}
    other = TTTLinear(64, 4, mini_batch=16).double()
    load_published(other, saved, "model.layers.3.")
    mask = torch.ones(values["x"].shape[:2], dtype=torch.bool)
    y, _ = other(values["x"], attention_mask=mask, reset=mask & (torch.arange(mask.shape[1]) == 0))
    torch.testing.assert_close(y, values["y"], rtol=0, atol=1e-6)
    with pytest.raises(UsageError, match=r"missing seq_modeling_block\.W1, .*; expected a plain TTT-Linear"):
        load_published(other, saved, "model.layers.4.")
    gated = {**saved, "model.layers.3.seq_modeling_block.g_proj.weight": torch.ones(64, 64)}
    with pytest.raises(UsageError, match="g_proj"):
        load_published(other, gated, "model.layers.3.")
    with pytest.raises(UsageError, match=r"learnable_token_idx: found shape \[16\], expected \[4\]"):
        load_published(TTTLinear(64, 4, mini_batch=4).double(), saved, "model.layers.3.")


def test_a_state_of_another_layer_or_number_of_lanes_and_odd_heads_are_refused() -> None:
    layer, none = toy(), torch.zeros(2, 3, dtype=torch.bool)
    for state in (layer.new_state(3), toy(size=SIZE + 1).new_state(2)):
        with pytest.raises(UsageError, match=r"state: found one of shape .*, expected \[2, 4, 8\]"):
            layer(noise(2, 3, WIDTH), attention_mask=none, reset=none, state=state)
    with pytest.raises(UsageError, match="hidden_size: found 12, expected a multiple of 8"):
        TTTLinear(12, 4)


# --- real rows ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ttt") / "rows"
    build_rows(XTTS, out)
    return out


def step_of(batch: MicroBatch, tokens: list[list[int]], table: Tensor, context: int) -> tuple[Step, Tensor]:
    """A micro-batch of lanes as embeddings, and which row is in each slot, -1 at pads."""
    rows = torch.full((batch.num_sequences, context), -1)
    x = 100 * noise(batch.num_sequences, context, WIDTH, dtype=table.dtype)
    reset = torch.zeros_like(rows, dtype=torch.bool)
    for row, lane, start, begins in zip(batch.rows, batch.sequence, batch.start, batch.reset, strict=True):
        span = slice(start, start + len(tokens[row]))
        rows[lane, span] = int(row)
        x[lane, span] = table[tokens[row]]
        reset[lane, start] = bool(begins)
    return Step(x=x, mask=rows >= 0, reset=reset), rows


@pytest.mark.parametrize("close_on", ["conversation", "turn"])
@torch.no_grad()
def test_conversations_of_real_rows_in_planned_lanes_have_the_outputs_of_one_piece(
    built: Path, close_on
) -> None:
    index = Index.open(str(built), "ttt")
    shards = [
        pq.read_table(built / shard.path, columns=["input_ids", "num_tokens"]) for shard in index.shards
    ]
    tokens = [row["input_ids"][: row["num_tokens"]] for shard in shards for row in shard.to_pylist()]
    layer = toy(size=64)
    table = noise(1 + max(max(row) for row in tokens), WIDTH)
    options = PlanOptions(
        mode="lanes", context=384, batch_size=2, micro_batches=1, pad_to_multiple_of=64, close_on=close_on
    )
    plan = plan_epoch(plan_rows(index), options)
    outputs: dict[int, Tensor] = {}
    state = layer.new_state(2)
    for (batch,) in plan:
        step, rows = step_of(batch, tokens, table, 384)
        y, state = layer(step.x, attention_mask=step.mask, reset=step.reset, state=state)
        outputs.update({int(row): y[rows == int(row)] for row in batch.rows})
    assert sorted(outputs) == list(range(len(tokens)))
    batches = [batch for (batch,) in plan]
    assert any((batch.start[batch.reset] > 0).any() for batch in batches)  # some begin in the middle
    assert any((batch.position[batch.start == 0] > 0).any() for batch in batches)  # some go on
    for conversation in np.unique(index.conversation):
        rows = np.flatnonzero(index.conversation == conversation)
        expected, _ = in_one_piece(layer, table[[token for row in rows for token in tokens[row]]])
        torch.testing.assert_close(torch.cat([outputs[row] for row in rows]), expected, rtol=0, atol=1e-10)
