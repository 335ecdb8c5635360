"""What is trained is what was asked for, is held as it was asked, and computes the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toys.building import build_rows
from toys.building import made_up
from toys.encoders import ENCODERS
from toys.samples import XTTS
from toys.training import MODES
from toys.training import curve
from toys.training import run
from transformers import AutoModel
from transformers import AutoModelForCausalLM
from transformers import GPT2Config

import speechrows
from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.model import presets
from speechrows.model.config import OmniConfig
from speechrows.model.encoders.kinds import speech_encoder
from speechrows.model.lanes import Lanes
from speechrows.model.lora import add_adapters
from speechrows.model.lora import merged
from speechrows.model.model_folder import FLAGS
from speechrows.model.omni import Omni
from speechrows.model.omni import omni
from speechrows.model.session import Session
from speechrows.model.shape import ModelShape
from speechrows.model.tuning import Tuning
from speechrows.text.tokenizers import open_tokenizer

CLIP = next(XTTS.rglob("*.wav"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuning")
    build_rows(XTTS, out / "heard", "transcription")
    codes = made_up(out / "heard", "mimi", out / "codes")
    build_rows(XTTS, out / "rows", "ttt")
    build_rows(XTTS, out / "rows", "s2s_mimi", generated=(codes,))
    return out / "rows"


@pytest.fixture(scope="module")
def batch(rows: Path) -> Batch:
    return next(iter(speechrows.load(rows, "s2s_mimi", budget_seconds=6, mel=80)))


def tiny(tuning: Tuning | None = None, **shape: Any) -> Omni:
    torch.manual_seed(0)
    model = omni(ModelShape(**shape), open_tokenizer(None), "mimi")
    (tuning or Tuning()).prepare(model)
    return model.train()


def trained(model: Omni) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def gradients(model: Omni, batch: Batch) -> dict[str, torch.Tensor]:
    model(batch).losses().sum().backward()
    return {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize(
    ("tuning", "begin"),
    [
        (Tuning(train=("projector",)), "speech_lm.projector."),
        (Tuning(train=("^audio_head",), freeze=("depth",)), "audio_head."),
        (Tuning(freeze=("^speech_lm.lm", "audio_head"), freeze_encoder=True), "speech_lm.projector."),
    ],
)
def test_what_patterns_leave_is_trained_and_nothing_else_has_a_gradient(
    batch: Batch, tuning: Tuning, begin: str
) -> None:
    model = tiny(tuning)
    names = trained(model)
    assert names
    assert all(name.startswith(begin) and "depth" not in name for name in names)
    assert [*gradients(model, batch)] == names


def test_a_speech_decoder_that_is_trained_alone_sends_no_gradient_into_the_language_model(
    batch: Batch,
) -> None:
    text = tiny(Tuning(train=("^audio_head",))).speech_lm(batch)
    assert not text.hidden_states.requires_grad
    assert not text.loss_sum.requires_grad


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        (Tuning(train=("projektor",)), "matches no parameter that may be trained; expected .* speech_lm.lm"),
        (Tuning(freeze=("",)), "no parameter that is left to train"),
        (Tuning(freeze=("(",)), r"--freeze \(: found no regular expression"),
        (Tuning(lora_target=("q_proj",)), "found no --lora-rank"),
        (Tuning(lora_rank=2, lora_target=("c_attn",)), "--lora-target c_attn: .*down_proj.*q_proj"),
        (Tuning(lora_target=("q_proj",)), "--lora-target: found no --lora-rank"),
        (Tuning(lora_alpha=8), "--lora-alpha, .*found no --lora-rank"),
        (Tuning(lora_rank=999), "--lora-rank: found 999, expected at most 128"),
    ],
)
def test_patterns_and_targets_that_can_not_be_meant_are_refused_in_a_line(tuning: Tuning, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tiny(tuning)


def test_a_head_that_is_tied_to_the_embeddings_is_chosen_by_either_name() -> None:
    for name in ("lm_head", "embed_tokens"):
        model = omni(ModelShape(), open_tokenizer(None), None)
        model.speech_lm.lm.config.tie_word_embeddings = True
        model.speech_lm.lm.tie_weights()
        Tuning(train=(name,)).prepare(model)
        assert trained(model) == ["speech_lm.lm.model.embed_tokens.weight"]


def test_a_language_model_without_linear_layers_is_refused_adapters_in_a_line() -> None:
    lm = AutoModelForCausalLM.from_config(GPT2Config(n_embd=8, n_head=1, n_layer=1, vocab_size=9))
    with pytest.raises(UsageError, match=r"--lora-rank: found no linear layer .* in GPT2LMHeadModel"):
        add_adapters(lm, rank=2, alpha=4, targets=())


def test_parts_learn_at_their_own_rates_and_norms_and_biases_do_not_decay() -> None:
    tuning = Tuning(encoder_lr_scale=0.1, lm_lr_scale=0.5, weight_decay=0.3)
    model = tiny(tuning, ttt_layers=1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in tuning.optimizer(model).param_groups:
        for name in (names[id(parameter)] for parameter in group["params"]):
            part = {"speech_lm.encoder": 0.1, "speech_lm.lm": 0.5}
            assert group["scale"] == part.get(".".join(name.split(".")[:2]), 1.0)
            is_small = name.endswith(("bias", "gate", "offset")) or "norm" in name
            assert group["weight_decay"] == (0.0 if is_small else 0.3), name
    with pytest.raises(UsageError, match="--lm-lr-scale: found 0"):
        replace(tuning, lm_lr_scale=0.0).optimizer(model)


def test_a_frozen_encoder_has_no_dropout_and_one_that_is_trained_has() -> None:
    encoder = speech_encoder(AutoModel.from_config(ENCODERS["wavlm"]), normalize=False)
    model = tiny()
    model.speech_lm.encoder = encoder
    is_dropped = [module.training for module in encoder.modules() if isinstance(module, torch.nn.Dropout)]
    assert all(is_dropped)
    Tuning(freeze_encoder=True).prepare(model)
    model.train()
    assert not any(module.training for module in encoder.modules())
    assert model.training
    assert model.speech_lm.projector.training


def test_matrices_that_are_not_trained_are_held_in_half_of_the_bytes(batch: Batch) -> None:
    tuning = Tuning(dtype="bfloat16", lora_rank=4, freeze_encoder=True)
    model, whole = tiny(tuning), tiny()
    types = {name: parameter.dtype for name, parameter in model.named_parameters()}
    halved = {name for name, dtype in types.items() if dtype == torch.bfloat16}
    assert {".".join(name.split(".")[:2]) for name in halved} == {"speech_lm.encoder", "speech_lm.lm"}
    assert not any("lora" in name or "norm" in name or name.endswith("bias") for name in halved)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        losses, expected = model(batch).losses(), whole(batch).losses()
    assert tuning.is_half
    torch.testing.assert_close(losses, expected, rtol=2e-2, atol=0.0)


@pytest.mark.parametrize("tuning", [Tuning(), Tuning(lora_rank=4)], ids=["all", "LoRA"])
def test_blocks_that_are_computed_again_have_the_gradients_of_those_that_are_kept(
    batch: Batch, tuning: Tuning
) -> None:
    shape = {"ttt_at": "1", "ttt_mini_batch": 16}  # a layer with a state is not run a second time
    kept = gradients(tiny(tuning, **shape), batch)
    again = gradients(tiny(replace(tuning, gradient_checkpointing=True), **shape), batch)
    assert [*kept] == [*again]
    assert all(kept[name].equal(again[name]) for name in kept)


def test_a_batch_without_a_clip_or_a_row_gives_every_parameter_a_gradient(batch: Batch) -> None:
    model = tiny(ttt_layers=1)
    none = batch.input_ids.new_zeros(0, batch.input_ids.shape[1])
    idle = replace(
        batch,
        **dict.fromkeys(("input_ids", "labels", "position_ids", "segment_ids"), none),
        **dict.fromkeys(("attention_mask", "reset"), none.bool()),
        features=None, codec_targets=None, num_audio_tokens=none[:, 0], clip_row=none[:, 0], row_ids=(),
        row_spans=torch.zeros(0, 3, dtype=torch.int64), lanes=none[:, 0], number=None,
    )  # fmt: skip
    model.speech_lm(idle, Lanes([*model.speech_lm.stateful], 1).states(idle))  # of none of the lanes
    found = gradients(model, idle)
    assert [*found] == trained(model)
    assert not any(gradient.any() for gradient in found.values())


def test_a_run_with_adapters_goes_on_bit_for_bit_and_is_merged_into_a_model_without(
    rows: Path, tmp_path: Path
) -> None:
    flags = ["--lora-rank", "4", "--dtype", "bfloat16", "--gradient-checkpointing", *MODES["lanes with TTT"]]
    flags += ["--freeze-encoder"]
    whole = curve(run(rows, tmp_path / "cut", *flags, "--steps", "2", "--save-every", "1"))
    last, cut = (tmp_path / "cut" / f"checkpoint-0000000{step}" for step in (2, 1))
    last.rename(tmp_path / "later")
    assert curve(run(rows, tmp_path / "cut", *flags, "--steps", "2", "--resume")) == whole
    assert cut.exists()
    model = Omni.load(tmp_path / "cut")
    model.save(tmp_path / "model")
    again = Omni.load(tmp_path / "model")
    assert not any("lora" in name for name in again.state_dict())
    answers = [Session(each, max_tokens=4).respond(CLIP).token_ids for each in (model, again)]
    assert answers[0] == answers[1]
    assert (OmniConfig.read(last).lora_scale, again.config.lora_scale) == (2.0, 0.0)


def test_adapters_are_merged_as_much_as_they_count(batch: Batch) -> None:
    tuning = Tuning(lora_rank=4, lora_alpha=6)
    adapted, plain = tiny(tuning).eval(), tiny().eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        expected, before = adapted(batch).losses(), plain(batch).losses()
        plain.load_state_dict(merged(adapted.state_dict(), tuning.lora_scale))
        torch.testing.assert_close(plain(batch).losses(), expected, rtol=1e-5, atol=0.0)
    assert (before - expected).abs().max() > 1


def test_a_run_is_gone_on_from_with_its_own_adapters_alone(tmp_path: Path) -> None:
    (tmp_path / FLAGS).write_text('{"lora_rank": 4, "lora_alpha": 0}')
    Tuning(lora_rank=4, lora_alpha=8).check_adapters(tmp_path)
    some = Tuning(lora_rank=4, lora_target=("q_proj",))
    for other in (Tuning(), Tuning(lora_rank=8), Tuning(lora_rank=4, lora_alpha=32), some):
        with pytest.raises(UsageError, match="expected --lora-rank 4 --lora-alpha 8, as its run had"):
            other.check_adapters(tmp_path)
    (tmp_path / FLAGS).write_text('{"seed": 0}')  # of a version that had no adapters
    Tuning().check_adapters(tmp_path)


def test_an_encoder_of_a_preset_has_blocks_of_its_own(batch: Batch) -> None:
    config: Any = presets.PRESETS["tiny"].encoder
    assert len(tiny().speech_lm.encoder.blocks()) == config.encoder_layers
