"""The audio head: codes of a row from its hidden states, delays and ends in their places."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys.batches import ToyRow
from toys.batches import idle_batch
from toys.batches import toy_batch
from toys.examples import MANY

from speechrows.codec import CODECS
from speechrows.codec import CodecSpec
from speechrows.codec import Specials
from speechrows.codec import delay
from speechrows.codec import undelay
from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.model.audio_head import AudioHead
from speechrows.model.audio_head import delayed
from speechrows.model.audio_head import undelayed

torch.set_num_threads(1)

LM_SIZE = 24
MIMI = CODECS["mimi"]


def spec(num_codebooks: int, delays: tuple[int, ...] = ()) -> CodecSpec:
    return CodecSpec(
        name="mimi", sampling_rate=24_000, frame_size=1_920, num_codebooks=num_codebooks, cardinality=16,
        specials=Specials.after(16), delays=delays,
    )  # fmt: skip


SPECS = {
    "as Mimi": spec(8, (0, 1, 1, 1, 1, 1, 1, 1)),
    "longer delays": spec(3, (0, 2, 3)),
    "no delays": spec(3),
    "one codebook": spec(1),
}


def head(of: CodecSpec) -> AudioHead:
    torch.manual_seed(0)
    return AudioHead(of, lm_size=LM_SIZE, size=64, num_layers=2, depth_size=64, num_depth_layers=1)


def row(name: str, of: CodecSpec, frames: int) -> ToyRow:
    generator = torch.Generator().manual_seed(frames)
    codes = torch.randint(of.cardinality, (of.num_codebooks, frames), generator=generator)
    return ToyRow(name=name, num_samples=4_000 * len(name), codes=codes)


def rows(of: CodecSpec) -> list[ToyRow]:
    return [row("a", of, 9), row("bb", of, 4), row("ccc", of, 1)]


def hidden_of(batch_rows: list[list[ToyRow]], pads: int = 2) -> torch.Tensor:
    """Noise for each row, whatever it stands beside, and noise of another kind at pads."""
    batch = toy_batch(*batch_rows, pads=pads)
    hidden = torch.full((*batch.input_ids.shape, LM_SIZE), 5.0)
    for (b, start, stop), row in zip(batch.row_spans.tolist(), chain(*batch_rows), strict=True):
        hidden[b, start:stop] = torch.from_numpy(row.noise(stop - start, LM_SIZE))
    return hidden


# --- delays --------------------------------------------------------------------------------


@MANY
@given(seed=st.integers(0, 2**16), frames=st.integers(0, 6), which=st.sampled_from([*SPECS]))
def test_delayed_codes_are_those_of_the_codec_module_with_an_end_and_undelayed_is_the_inverse(
    seed: int, frames: int, which: str
) -> None:
    of = SPECS[which]
    codes = np.random.default_rng(seed).integers(of.cardinality, size=(of.num_codebooks, frames))
    late = delayed(torch.from_numpy(codes), of)
    expected = delay(codes.astype(np.int16), of)
    assert late[0, frames] == of.specials.eos
    assert (late[1:, : expected.shape[1]].numpy() == expected[1:]).all()
    assert (late[0, :frames].numpy() == expected[0, :frames]).all()
    assert (undelayed(late, frames, of).numpy() == codes).all()
    if of.delays:
        assert (undelay(late.numpy().astype(np.int16), of) == codes).all()


def test_a_codec_whose_first_codebook_waits_is_refused() -> None:
    with pytest.raises(UsageError, match=r"found delays \(1, 0\), expected the first to be 0"):
        head(spec(2, (1, 0)))


# --- losses --------------------------------------------------------------------------------


@pytest.mark.parametrize("which", SPECS)
@torch.no_grad()
def test_losses_are_sums_over_rows_and_pads_change_nothing(which: str) -> None:
    of = SPECS[which]
    model, all_rows = head(of), rows(of)
    alone = [model(hidden_of([[row]], 0), toy_batch([row], pads=0)) for row in all_rows]
    for layout in ([[row] for row in all_rows], [all_rows], [all_rows[:1], all_rows[1:]]):
        loss = model(hidden_of(layout, 4), toy_batch(*layout, pads=4))
        torch.testing.assert_close(loss.semantic_sum, sum(loss_alone.semantic_sum for loss_alone in alone))
        torch.testing.assert_close(
            loss.depth_sum, sum((loss_alone.depth_sum for loss_alone in alone), torch.zeros(()))
        )
        assert loss.num_semantic == 9 + 4 + 1 + 3  # with the end of each
        assert loss.num_depth == (9 + 4 + 1) * (of.num_codebooks - 1)


def test_losses_that_know_nothing_are_the_logarithm_of_the_choices() -> None:
    of = SPECS["as Mimi"]
    model = head(of)
    for layer in (model.semantic, *model.depth["heads"]):  # every choice alike
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    loss = model(hidden_of([rows(of)]), toy_batch(rows(of)))
    assert float(loss.semantic_sum.detach()) / loss.num_semantic == pytest.approx(np.log(17), rel=1e-4)
    assert float(loss.depth_sum.detach()) / loss.num_depth == pytest.approx(np.log(16), rel=1e-4)


@torch.no_grad()
def test_no_code_is_read_before_it_is_told() -> None:
    of = SPECS["as Mimi"]
    model = head(of)
    prefix = [torch.from_numpy(row("a", of, 1).noise(5, LM_SIZE))]
    codes = delayed(row("a", of, 9).codes, of)
    changed = codes.clone()
    changed[:, 4] = (codes[:, 4] + 1) % 16
    before, after = (model._decode(prefix, [clip]) for clip in (codes, changed))
    assert torch.equal(before[:5], after[:5])
    assert not torch.allclose(before[5], after[5])
    changed = codes.clone()
    changed[3, 4] = (codes[3, 4] + 1) % 16
    before, after = (model._depth_logits(before, clip.T[:, :-1]) for clip in (codes, changed))
    assert torch.equal(before[:, :3], after[:, :3])  # of codebooks 1..3
    assert not torch.allclose(before[4, 3], after[4, 3])


@pytest.mark.parametrize(
    "batch", [idle_batch(), toy_batch([ToyRow(name="text")])], ids=["no row", "no codes"]
)
def test_without_codes_every_parameter_takes_part_with_weight_zero(batch: Batch) -> None:
    model = head(SPECS["as Mimi"])
    loss = model(torch.zeros(*batch.input_ids.shape, LM_SIZE), batch)
    assert (loss.num_semantic, loss.num_depth) == (0, 0)
    (loss.semantic_sum + loss.depth_sum).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_every_parameter_takes_part_in_the_losses_and_the_hidden_states_of_the_rows_do() -> None:
    of = SPECS["as Mimi"]
    model, batch = head(of), toy_batch(rows(of))
    hidden = hidden_of([rows(of)]).requires_grad_()
    loss = model(hidden, batch)
    (loss.semantic_sum + loss.depth_sum).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert hidden.grad is not None
    assert (hidden.grad.abs().sum(-1) > 0).equal(batch.attention_mask)


def test_another_codecs_codes_are_refused() -> None:
    of = SPECS["one codebook"]
    batch = replace(toy_batch(rows(of)), codec="cosyvoice2")
    with pytest.raises(UsageError, match="found cosyvoice2, expected mimi"):
        head(of)(hidden_of([rows(of)]), batch)


# --- learning and generation ---------------------------------------------------------------


SHORT = ("as Mimi", "one codebook")


@pytest.mark.parametrize(
    "which", [which if which in SHORT else pytest.param(which, marks=pytest.mark.soak) for which in SPECS]
)
def test_rows_learnt_by_heart_are_generated_code_by_code_up_to_their_ends(which: str) -> None:
    of = SPECS[which]
    model, all_rows = head(of), rows(of)
    batch, hidden = toy_batch(all_rows), hidden_of([all_rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(60):
        loss = model(hidden, batch)
        (loss.semantic_sum / loss.num_semantic + loss.depth_sum / max(1, loss.num_depth)).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.semantic_sum.detach()) / loss.num_semantic < 0.1
    prefixes = [hidden[b, start:stop] for b, start, stop in batch.row_spans.tolist()]
    together = model.generate(prefixes, max_frames=20)
    for prefix, codes, row in zip(prefixes, together, all_rows, strict=True):
        assert codes.tolist() == row.codes.tolist()
        (alone,) = model.generate([prefix], max_frames=20)
        assert alone.equal(codes)
    (cut,) = model.generate(prefixes[:1], max_frames=3)
    assert cut.tolist() == all_rows[0].codes[:, :3].tolist()


@pytest.mark.parametrize("which", SPECS)
def test_drawn_codes_are_codes_no_more_than_asked_for_and_the_same_for_a_seed(which: str) -> None:
    of = SPECS[which]
    model, prefix = head(of), hidden_of([rows(of)])[0, :5]
    drawn = [
        model.generate(
            [prefix], max_frames=6, temperature=1.0, generator=torch.Generator().manual_seed(seed)
        )[0]
        for seed in (1, 1, 2, 3)
    ]
    assert drawn[0].equal(drawn[1])
    assert len({str(codes.tolist()) for codes in drawn}) > 1
    for codes in drawn:
        assert codes.shape[0] == of.num_codebooks
        assert codes.shape[1] <= 6
        assert ((codes >= 0) & (codes < of.cardinality)).all()


@pytest.mark.parametrize("which", SPECS)
def test_a_clip_that_is_cut_is_the_beginning_of_the_longer_one(which: str) -> None:
    model, prefix = head(SPECS[which]), hidden_of([rows(SPECS[which])])[0]
    for length in (1, 2, 5, 11):  # prefixes that differ
        (whole,) = model.generate([prefix[:length]], max_frames=6)
        (cut,) = model.generate([prefix[:length]], max_frames=3)
        assert cut.equal(whole[:, :3])


def test_the_head_of_mimi_takes_its_codes() -> None:
    model = head(MIMI)
    loss = model(hidden_of([[row("a", MIMI, 12)]]), toy_batch([row("a", MIMI, 12)]))
    assert (loss.num_semantic, loss.num_depth) == (13, 84)
