"""Speech encoders without pads, placeholders that become frames, segments that do not see one another."""

from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from toys.batches import AUDIO
from toys.batches import RATE
from toys.batches import ToyRow
from toys.batches import close
from toys.batches import idle_batch
from toys.batches import row
from toys.batches import toy_batch
from toys.building import build_rows
from toys.encoders import MEL
from toys.encoders import encoder
from toys.encoders import mel_of
from toys.examples import FEW
from toys.examples import MANY
from toys.samples import XTTS
from transformers import AutoModelForCausalLM
from transformers import CohereConfig
from transformers import GPT2Config
from transformers import LlamaConfig
from transformers import MambaConfig
from transformers import MistralConfig
from transformers import PreTrainedModel
from transformers import Qwen2Config
from transformers import Qwen3Config
from transformers import Wav2Vec2FeatureExtractor

from speechrows.codec import num_audio_tokens
from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.loader.load import load
from speechrows.model import speech_lm as module_of_speech_lm
from speechrows.model.generation import Generated
from speechrows.model.presets import PRESETS
from speechrows.model.presets import Preset
from speechrows.model.presets import speech_lm
from speechrows.model.segments import Span
from speechrows.model.speech_lm import SpeechLM
from speechrows.model.ttt import TTTLinear
from speechrows.text.tokenizers import open_tokenizer
from speechrows.types import Samples

torch.set_num_threads(1)

SIZES: dict[str, Any] = {
    "vocab_size": 24, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0,
}  # fmt: skip
LMS = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES),
    "mistral": MistralConfig(**SIZES, sliding_window=6),
    "sliding": Qwen3Config(**SIZES, use_sliding_window=True, sliding_window=6, max_window_layers=1),
    "gpt2": GPT2Config(vocab_size=24, n_embd=32, n_layer=2, n_head=2, n_positions=256),
}


def language_model(name: str, attention: str = "sdpa") -> PreTrainedModel:
    torch.manual_seed(1)
    lm = AutoModelForCausalLM.from_config(LMS[name], attn_implementation=attention)
    for parameter in lm.parameters():
        parameter.data.mul_(4)  # far enough from zero that what one token does to another shows
    return lm.eval()


def model(speech: str = "whisper", lm: str = "llama", rate: Fraction = RATE, **more: Any) -> SpeechLM:
    parts = encoder(speech), language_model(lm)
    torch.manual_seed(2)
    net = SpeechLM(*parts, audio_tokens_per_second=rate, audio_token_id=AUDIO, **more)
    return net.eval()


# --- frames and placeholders ---------------------------------------------------------------


@pytest.mark.parametrize(("speech", "wrong"), [("whisper", None), ("whisper", 21), ("wavlm", MEL)])
def test_a_batch_with_other_audio_than_the_encoder_takes_is_refused(speech: str, wrong: int | None) -> None:
    with pytest.raises(UsageError, match="load with"):
        model(speech)(toy_batch([row("a", 0.5)], mel=wrong))


@pytest.mark.parametrize(
    ("speech", "rate"), [("whisper", RATE), ("whisper", Fraction(10)), ("wavlm-large", Fraction(25))]
)
@torch.no_grad()
def test_for_every_length_frames_equal_placeholders(speech: str, rate: Fraction) -> None:
    net = model(speech, rate=rate)

    longest = 60 if speech == "whisper" else 15  # seconds; convolutions take their time

    @MANY if speech == "whisper" else FEW
    @example(num_samples=1)
    @example(num_samples=longest * 16_000)
    @given(num_samples=st.integers(1, longest * 16_000))
    def check(num_samples: int) -> None:
        tokens = num_audio_tokens(Samples(num_samples), 16_000, rate)
        clip = ToyRow(name="a", num_samples=num_samples)
        frames = net.encoder(toy_batch([clip], rate=rate, mel=mel_of(speech)), net.frames_per_token)
        assert len(frames) == tokens * net.frames_per_token

    check()


@torch.no_grad()
def test_placeholders_become_the_projected_frames_in_order_and_words_stay() -> None:
    net = model()
    batch = toy_batch([row("a", 0.3), row("b", 0.2)], [row("c", 0.5), ToyRow(name="text")], mel=MEL)
    frames = net.encoder(batch, 4).reshape(-1, 4 * 32)
    embeds = net.embed(batch)
    is_audio = batch.input_ids == AUDIO
    close(embeds[is_audio], net.projector(frames))
    close(embeds[~is_audio], net.lm.get_input_embeddings()(batch.input_ids[~is_audio]))


def test_a_row_whose_placeholders_are_not_its_frames_is_named() -> None:
    net = model()
    batch = toy_batch([row("a", 0.3)], [row("b", 0.5), row("c", 0.4)], mel=MEL)
    swapped = replace(batch, num_audio_tokens=batch.num_audio_tokens[[0, 2, 1]])  # as many in all
    with pytest.raises(UsageError, match="b: found 7 audio placeholders, expected the 5 audio tokens"):
        net(swapped)


def test_rows_made_for_another_rate_are_refused() -> None:
    batch = toy_batch([row("a", 0.3)], [row("b", 0.5)], mel=MEL)
    with pytest.raises(
        UsageError, match=r"b: found audio of shape .* another number of audio tokens a second"
    ):
        model(rate=Fraction(10))(batch)


def test_a_rate_that_does_not_divide_the_encoders_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"found 15, .* the encoder's 50 frames a second: --rate 25 or 12.5 or 10$"
    ):
        model(rate=Fraction(15))


# --- segments, pads, loss ------------------------------------------------------------------

A, B, C = row("a", 0.3), row("b", 0.52, before=(8, 9, 10)), ToyRow(name="c", target=(11, 12, 2))


def logits(net: SpeechLM, batch: Batch, *states: Any) -> torch.Tensor:
    return net.logits(net(batch, *states).before)


def one_by_one(net: SpeechLM, rows: list[ToyRow]) -> torch.Tensor:
    return torch.cat([logits(net, toy_batch([entry], mel=MEL, pads=0)) for entry in rows])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", LMS)
@torch.no_grad()
def test_a_packed_row_has_the_logits_of_the_row_alone(name: str, attention: str) -> None:
    net = model(lm=name)
    net.lm = language_model(name, attention)
    expected = one_by_one(net, [A, B, C])
    close(logits(net, toy_batch([A, B, C], mel=MEL)), expected)
    close(logits(net, toy_batch([A, B], [C], mel=MEL, pads=5, lead=3)), expected)


@torch.no_grad()
def test_pads_inside_a_segment_change_nothing() -> None:
    net = model()
    batch = toy_batch([A, replace(B, joined=True)], mel=MEL)
    gap = batch.row_spans[0, 2]

    def widened(values: torch.Tensor, pad: int) -> torch.Tensor:
        return torch.cat((values[:, :gap], torch.full_like(values[:, :3], pad), values[:, gap:]), dim=1)

    apart = replace(
        batch,
        row_spans=batch.row_spans + torch.tensor([[0, 0, 0], [0, 3, 3]]),
        **{name: widened(getattr(batch, name), pad) for name, pad in PADS.items()},
    )
    close(logits(net, apart), logits(net, batch))


PADS = {"input_ids": 0, "labels": -100, "attention_mask": 0, "segment_ids": 0, "position_ids": 3, "reset": 0}


@torch.no_grad()
def test_positions_that_go_on_from_an_earlier_step_give_the_same_logits() -> None:
    net, batch = model(), toy_batch([A, B], mel=MEL)
    close(logits(net, replace(batch, position_ids=batch.position_ids + 256)), logits(net, batch))


@torch.no_grad()
def test_rows_of_a_conversation_see_what_stands_before_them() -> None:
    net = model()
    together = logits(net, toy_batch([A, replace(B, joined=True)], mel=MEL))
    assert (together - one_by_one(net, [A, B])).abs().max() > 0.1


@torch.no_grad()
def test_the_loss_is_the_sum_over_supervised_tokens_that_transformers_averages() -> None:
    net = model()
    out = net(toy_batch([A, B], [C], mel=MEL))
    assert int(out.num_supervised) == len(out.targets) == 4 + 4 + 3
    batch = toy_batch([A], mel=MEL, pads=0)
    expected = net.lm(inputs_embeds=net.embed(batch), labels=batch.labels).loss
    close(net(batch).loss_sum, 4 * expected)
    close(out.loss_sum, sum(net(toy_batch([row], mel=MEL)).loss_sum for row in (A, B, C)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rows")
    build_rows(XTTS, out, "transcription")
    return out


@torch.no_grad()
def test_real_rows_have_one_loss_whether_in_buckets_or_packed(folder: Path) -> None:
    torch.manual_seed(0)
    net = speech_lm(PRESETS["tiny"], open_tokenizer(str(folder / "tokenizer"))).eval()
    outs = [
        [net(batch) for batch in load(str(folder), "transcription", mel=80, **options)]
        for options in ({"budget_tokens": 600}, {"mode": "pack", "context": 700, "batch_size": 2})
    ]
    bucket, pack = (torch.stack([out.loss_sum for out in some]).sum() for some in outs)
    assert len(outs[0]) > len(outs[1]) > 1
    torch.testing.assert_close(pack, bucket, rtol=1e-5, atol=0.0)
    assert len({sum(int(out.num_supervised) for out in some) for some in outs}) == 1


@pytest.mark.parametrize("batch", [idle_batch(), toy_batch([C])], ids=["no sequence", "no clip"])
def test_without_rows_or_clips_every_parameter_takes_part_with_weight_zero(batch: Batch) -> None:
    net = model("wavlm", stateful=[TTTLinear(32, 2, mini_batch=4)]).train()
    out = net(batch)
    out.loss_sum.backward()
    assert [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None] == []
    for parameter in net.encoder.parameters():
        assert parameter.grad is None or not parameter.grad.any()
    if not len(batch.input_ids):
        assert float(out.loss_sum.detach()) == int(out.num_supervised) == 0
        assert not any(p.grad.any() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(vocab_size=24, hidden_size=32, num_hidden_layers=1, state_size=4),
        CohereConfig(**SIZES, logit_scale=0.5),
    ],
    ids=["recurrent", "scaled"],
)
def test_language_models_that_see_across_segments_or_scale_their_logits_are_refused(config: Any) -> None:
    torch.manual_seed(0)
    with pytest.raises(UsageError, match=f"{config.model_type.title()}ForCausalLM"):
        SpeechLM(
            encoder("whisper"), AutoModelForCausalLM.from_config(config), audio_tokens_per_second=RATE,
            audio_token_id=AUDIO,
        )  # fmt: skip


# --- stateful layers, generation, presets --------------------------------------------------


def with_state(span: Span = "conversation", inside: bool = False) -> SpeechLM:
    net = model()
    net.attention_span = span
    for block in (None, 1) if inside else (None,):
        layer = TTTLinear(32, 2, mini_batch=4)
        torch.nn.init.normal_(layer.output.weight)
        torch.nn.init.ones_(layer.gate)
        net.insert(layer, before_block=block)
    return net


SPANS: tuple[Span, ...] = ("conversation", "turn", 3)


@torch.no_grad()
def test_stateful_layers_start_from_the_states_given_and_give_theirs() -> None:
    net = with_state()
    first = net(toy_batch([A], mel=MEL))
    batch = toy_batch([B], mel=MEL)
    going_on = replace(batch, reset=torch.zeros_like(batch.reset))
    close(logits(net, batch, first.states), logits(net, batch))  # reset
    assert (logits(net, going_on, first.states) - logits(net, batch)).abs().max() > 0.01
    assert len(first.states) == 1


@torch.no_grad()
def test_the_attention_span_is_how_far_the_language_model_sees_and_no_further() -> None:
    """By the logits of the last token, when a token before it is another."""
    net = model()
    whole = toy_batch([B, replace(C, joined=True)], mel=MEL)
    (_, start, stop), last = whole.row_spans[1].tolist(), whole.row_spans[1, 2].item() - 1

    def sees(slot: int) -> bool:
        ids = whole.input_ids.clone()
        ids[0, slot] = (ids[0, slot] + 3) % 20
        ids[0, slot] += ids[0, slot] == AUDIO
        other = replace(whole, input_ids=ids)
        return not torch.equal(*(net(batch).hidden_states[0, last] for batch in (whole, other)))

    texts = [slot for slot in range(stop) if int(whole.input_ids[0, slot]) != AUDIO]
    for span, first in (("conversation", 0), ("turn", start), (2, stop - 3)):
        net.attention_span = span  # of two blocks, each sees as far again
        assert [slot for slot in texts if sees(slot)] == [slot for slot in texts if slot >= first], span


def test_what_attention_can_not_see_reaches_it_by_a_layer_inside_the_language_model() -> None:
    net = model()
    net.attention_span = "turn"
    layer = TTTLinear(32, 2, mini_batch=4)
    torch.nn.init.normal_(layer.output.weight)
    net.insert(layer, before_block=1)
    whole = toy_batch([B, replace(C, joined=True)], mel=MEL)
    ids = whole.input_ids.clone()
    ids[0, 0] += 3
    last = whole.row_spans[1, 2] - 1
    before, after = (net(replace(whole, input_ids=i)).hidden_states[0, last] for i in (whole.input_ids, ids))
    assert not torch.equal(before, after)
    with pytest.raises(UsageError, match="block: found 9, expected one of the language model's: 0 to 1"):
        with_state().insert(TTTLinear(32, 2), before_block=9)
    copied = deepcopy(with_state("turn", inside=True))
    copied(toy_batch([A], mel=MEL)).loss_sum.backward()
    assert all(layer.query.weight.grad.any() for layer in copied.stateful)


@pytest.mark.parametrize("name", LMS)
@torch.no_grad()
def test_greedy_tokens_are_those_of_transformers_for_each_row_alone(name: str) -> None:
    net = model(lm=name)
    batch = toy_batch([A, B], [C], mel=MEL)
    texts = net.generate(batch, max_new_tokens=8, end_ids=()).tokens
    for entry, tokens in zip((A, B, C), texts, strict=True):
        alone = toy_batch([entry], mel=MEL, pads=0)
        prompt = net.embed(alone)[:, : -len(entry.target)]
        lm: Any = net.lm
        expected = lm.generate(
            inputs_embeds=prompt, attention_mask=torch.ones(prompt.shape[:2]), do_sample=False,
            max_new_tokens=8, min_new_tokens=8, eos_token_id=None, pad_token_id=0, suppress_tokens=[AUDIO],
        )  # fmt: skip
        assert tokens == expected[0].tolist()


@torch.no_grad()
def test_a_row_ends_at_its_end_token_and_the_others_go_on() -> None:
    net = model()
    batch = toy_batch([A], [B], [C], mel=MEL)
    free = net.generate(batch, max_new_tokens=8, end_ids=()).tokens
    end = free[0][3]
    cut = [tokens[: tokens.index(end)] if end in tokens else tokens for tokens in free]
    assert net.generate(batch, max_new_tokens=8, end_ids={end}).tokens == cut
    assert net.generate(idle_batch(), max_new_tokens=8, end_ids={end}).tokens == []


@pytest.mark.parametrize("inside", [False, True], ids=["above", "above and inside"])
@pytest.mark.parametrize("span", SPANS)
@torch.no_grad()
def test_generation_feeds_stateful_layers_as_one_forward_pass_does(span: Span, inside: bool) -> None:
    net = with_state(span, inside)
    texts = net.generate(
        toy_batch([A], [B, replace(C, joined=True)], mel=MEL), max_new_tokens=6, end_ids=()
    ).tokens
    for rows, tokens in zip(([A], [B], [B, replace(C, joined=True)]), texts, strict=True):
        whole = toy_batch([*rows[:-1], replace(rows[-1], target=tuple(tokens))], mel=MEL)
        scores = logits(net, whole)[-6:]
        scores[:, AUDIO] = -torch.inf  # which is never said
        assert scores.argmax(-1).tolist() == tokens


@pytest.mark.parametrize("inside", [False, True], ids=["above", "above and inside"])
@pytest.mark.parametrize("span", ["conversation", "turn"])
@torch.no_grad()
def test_rows_that_are_gone_on_from_together_are_those_of_each_alone(span: Span, inside: bool) -> None:
    net, later = with_state(span, inside), (row("d", 0.5), row("e", 0.3))
    free = net.generate(toy_batch([A], [B], mel=MEL), max_new_tokens=6, end_ids=()).tokens
    turn: dict[str, Any] = {"max_new_tokens": 6, "end_ids": {free[0][2]}, "then_ids": (2, 9)}

    def turns(*rows: ToyRow, after: tuple[ToyRow, ...]) -> list[Generated]:
        first = net.generate(toy_batch(*([row] for row in rows), mel=MEL), **turn)
        return [
            first,
            net.generate(toy_batch(*([row] for row in after), mel=MEL), **turn, memory=first.memory),
        ]

    together = turns(A, B, after=later)
    assert together[0].are_cut != [True, True]
    for i, (first, second) in enumerate(zip((A, B), later, strict=True)):
        for many, one in zip(together, turns(first, after=(second,)), strict=True):
            assert (many.tokens[i], many.are_cut[i]) == (one.tokens[0], one.are_cut[0])
            close(many.hidden_states[i], one.hidden_states[0])
            assert many.memory is not None
            assert one.memory is not None
            assert int(many.memory.num_tokens[i]) == int(one.memory.num_tokens[0])
    with pytest.raises(UsageError, match="memory: found 2 conversations, expected 1"):
        net.generate(toy_batch([A], mel=MEL), **turn, memory=together[1].memory)


@pytest.mark.parametrize("name", ["mistral", "sliding", "gpt2"])
@torch.no_grad()
def test_a_turn_after_another_is_generated_as_after_its_text(name: str) -> None:
    net = model(lm=name)
    turn: dict[str, Any] = {"max_new_tokens": 6, "end_ids": ()}
    first = net.generate(toy_batch([A], mel=MEL), **turn, then_ids=(2,))
    second = net.generate(toy_batch([B], mel=MEL), **turn, memory=first.memory)
    rows = [replace(A, target=(*first.tokens[0], 2)), replace(B, joined=True)]
    assert net.generate(toy_batch(rows, mel=MEL), **turn).tokens == [*first.tokens, *second.tokens]
    if name != "gpt2":
        with pytest.raises(UsageError, match="expected one, where attention counts slots"):
            net.generate(toy_batch([A], [B], mel=MEL), **turn, then_ids=(2,))


def test_the_tiny_preset_learns_a_row_by_heart_and_comes_back_from_its_state_dict() -> None:
    tokenizer = open_tokenizer(None)
    torch.manual_seed(0)
    net = speech_lm(PRESETS["tiny"], tokenizer)
    assert net.lm.get_input_embeddings().num_embeddings == len(tokenizer)
    net.audio_token_id = AUDIO  # of toy_batch
    batch = toy_batch([row("a", 0.3)], [row("b", 0.4, target=(9, 8, 2))], mel=80)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(40):
        out = net(batch)
        (out.loss_sum / out.num_supervised).backward()
        optimizer.step()
        optimizer.zero_grad()
    again = speech_lm(PRESETS["tiny"], tokenizer)
    again.audio_token_id = AUDIO
    again.load_state_dict(net.state_dict())
    assert again.eval().generate(batch, max_new_tokens=8, end_ids={2}).tokens == [[5, 6, 7], [9, 8]]


def test_weights_are_had_from_a_folder_and_speech_is_normed_where_its_extractor_says_so(
    tmp_path: Path,
) -> None:
    speech, lm = encoder("wavlm").model, language_model("llama")
    for part, name in ((speech, "speech"), (lm, "lm")):
        part.save_pretrained(tmp_path / name)
    tokenizer = open_tokenizer(None)
    for normalize in (True, False):
        Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(tmp_path / "speech")
        preset = Preset(
            encoder=str(tmp_path / "speech"), lm=str(tmp_path / "lm"), audio_tokens_per_second=Fraction(10)
        )
        net = speech_lm(preset, tokenizer, attention="eager")
        assert net.frames_per_token == 5
        assert net.lm.config._attn_implementation == "eager"
        assert net.encoder.normalize == normalize
        for actual, expected in (
            (net.encoder.model, speech),
            (net.lm.base_model.layers, lm.base_model.layers),
        ):
            assert all(
                torch.equal(a, b) for a, b in zip(actual.parameters(), expected.parameters(), strict=True)
            )


def test_a_model_that_can_not_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')  # and no weights
    config = PRESETS["tiny"].encoder
    for preset, name in (
        (replace(PRESETS["tiny"], encoder=str(tmp_path)), str(tmp_path)),
        (replace(PRESETS["tiny"], encoder=config, lm="org/gated"), "org/gated"),
    ):
        with pytest.raises(UsageError, match=f"model {name}: can not be opened; .* `hf auth login`"):
            speech_lm(preset, open_tokenizer(None))


def test_presets_name_rates_that_their_encoders_frames_divide_into() -> None:
    assert {name: Fraction(50) / preset.audio_tokens_per_second for name, preset in PRESETS.items()} == {
        "tiny": 4, "small-omni": 4, "tiny-audio": 5, "llama-omni-small": 5, "llama-omni": 5,
    }  # fmt: skip


def test_losses_of_many_slots_are_made_part_by_part_with_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = toy_batch([A, B], [C], mel=MEL)
    found = []
    for slots in (1024, 2):
        monkeypatch.setattr(module_of_speech_lm, "SLOTS_AT_ONCE", slots)
        net = model()
        net(batch).loss_sum.backward()
        found.append([parameter.grad for parameter in net.parameters() if parameter.grad is not None])
    for whole, parts in zip(*found, strict=True):
        close(whole, parts)
