"""Speech encoders without pads: a clip's frames are its own, and those of transformers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from toys.batches import RATE
from toys.batches import ToyRow
from toys.batches import close
from toys.batches import row
from toys.batches import toy_batch
from toys.encoders import ENCODERS
from toys.encoders import MEL
from toys.encoders import WHISPER
from toys.encoders import encoder
from toys.encoders import mel_of
from toys.samples import XTTS
from transformers import AutoModel
from transformers import BertConfig
from transformers import MoonshineConfig
from transformers import ParakeetFeatureExtractor
from transformers import SeamlessM4TConfig
from transformers import SeamlessM4TFeatureExtractor
from transformers import SEWConfig
from transformers import Wav2Vec2BertConfig
from transformers import Wav2Vec2ConformerConfig

from speechrows.errors import UsageError
from speechrows.loader.collate.folding import Folding
from speechrows.model.encoders.kinds import encoder_config
from speechrows.model.encoders.log_mel import kaldi_features
from speechrows.model.encoders.log_mel import nemo_features

torch.set_num_threads(1)


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_frames_of_a_clip_are_the_same_alone_and_among_longer_ones(name: str) -> None:
    speech, rows = (
        encoder(name),
        [row("a", 0.3), row("b", 1.1), row("c", 0.45), row("d", 2.5), row("e", 1e-3)],
    )
    each = speech.frames_per_token(RATE)
    together = speech(toy_batch(*([row] for row in rows), mel=mel_of(name)), each)
    alone = [speech(toy_batch([row], mel=mel_of(name)), each) for row in rows]
    assert [len(frames) for frames in alone] == [tokens * each for tokens in (4, 14, 6, 32, 1)]
    close(together, torch.cat(alone))


@pytest.mark.parametrize("name", ["whisper", "wavlm-large"])
@torch.no_grad()
def test_frames_of_a_clip_that_takes_several_rows_are_those_of_one_row(name: str) -> None:
    rows = [*(row(f"short {i}", 0.2) for i in range(9)), row("long", 6.0)]
    batch = toy_batch(*([row] for row in rows), mel=mel_of(name))
    field, step = ("features", 160) if mel_of(name) else ("speech", 1)
    audio, folding = getattr(batch, field), Folding.of(batch.num_audio_tokens.numpy() * 1280, "pack")
    parts = [audio[torch.from_numpy(group)] for group in folding.groups]
    pieces = torch.from_numpy(folding.pieces)
    folded = replace(batch, **{field: folding.joined(parts, step), "clip_pieces": pieces})
    assert pieces[-1] > 1
    assert getattr(folded, field).numel() < audio.numel() / 3
    close(encoder(name)(folded, 4), encoder(name)(batch, 4))


@pytest.mark.parametrize("name", ["whisper", "qwen2-audio", "audio-flamingo-3", "voxtral"])
@torch.no_grad()
def test_frames_of_whisper_s_kind_are_those_of_transformers_where_it_needs_no_pad(name: str) -> None:
    speech = encoder(name)
    batch = toy_batch([row("a", 2.0)], mel=MEL)  # all its positions
    assert batch.features is not None
    mask = {"input_features_mask": torch.ones(1, 200)} if name == "audio-flamingo-3" else {}
    expected = speech.model(batch.features, **mask).last_hidden_state[0]
    assert len(expected) == 2 * speech.frames_per_second
    close(speech(batch, speech.frames_per_token(RATE)), expected)


@torch.no_grad()
def test_whisper_encodes_what_is_longer_than_its_positions_window_by_window() -> None:
    torch.manual_seed(0)
    whole: Any = AutoModel.from_config(WHISPER).eval()
    batch = toy_batch([row("a", 5.2)], [row("b", 0.5)], mel=MEL)
    assert batch.features is not None
    frames = encoder("whisper")(batch, 4)
    assert len(frames) == 260 + 28
    for start in (0, 100):
        piece = batch.features[:1, :, 2 * start : 2 * start + 200]
        close(frames[start : start + 100], whole.encoder(piece).last_hidden_state[0])


@torch.no_grad()
def test_frames_of_speech_are_those_of_transformers_with_the_samples_that_the_last_one_needs() -> None:
    speech = encoder("wavlm-large")
    clip = row("a", 0.71)
    samples = torch.from_numpy(clip.noise(clip.num_samples))
    normed = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
    filled = torch.nn.functional.pad(normed, (0, 36 * 320 + 80 - len(normed)))
    expected = speech.model(filled.unsqueeze(0)).last_hidden_state[0]
    assert len(expected) == 36
    close(speech(toy_batch([clip], [row("b", 1.3)]), 4)[:36], expected)


EXTRACTORS = {"w2v-bert": SeamlessM4TFeatureExtractor(), "parakeet": ParakeetFeatureExtractor()}


@pytest.mark.parametrize("num_samples", [560, 7_777, 12_800, 39_999])
@pytest.mark.parametrize("name", EXTRACTORS)
@torch.no_grad()
def test_frames_of_a_conformer_are_those_of_transformers_on_its_own_features_and_zeros_after_them(
    name: str, num_samples: int
) -> None:
    speech, clip = encoder(name), ToyRow(name="a", num_samples=num_samples)
    inputs = EXTRACTORS[name](clip.noise(num_samples), sampling_rate=16_000, return_tensors="pt")
    expected = speech.model(**inputs)
    mask = inputs.attention_mask if name == "w2v-bert" else expected.attention_mask
    own = expected.last_hidden_state[0, mask[0].bool()]
    frames = speech(toy_batch([row("longer", 2.9)], [clip], rate=RATE), speech.frames_per_token(RATE))
    frames = frames[round(3 * RATE) * speech.frames_per_token(RATE) - speech.frames_per_token(RATE) :]
    close(frames[: len(own)], own)
    assert not frames[len(own) :].any()


NOISE = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
VOICE, _ = sf.read(next(XTTS.rglob("*.wav")), dtype="float32", frames=40_000)
CLIPS = {
    "quiet": NOISE * 1e-3,
    "loud": NOISE / 4,
    "voice": VOICE,
    "offset": NOISE / 8 + 0.5,
}


@pytest.mark.parametrize("clip", CLIPS)
def test_features_of_conformers_are_those_of_their_extractors(clip: str) -> None:
    num_samples = torch.tensor([len(CLIPS[clip])])
    padded = torch.nn.functional.pad(torch.from_numpy(CLIPS[clip])[None], (0, 640))
    for name, features in (("w2v-bert", kaldi_features), ("parakeet", nemo_features)):
        expected = EXTRACTORS[name](CLIPS[clip], sampling_rate=16_000, return_tensors="pt").input_features
        actual, lengths = features(padded, num_samples, 80)
        columns = int(lengths) // 2 * 2  # the extractor leaves out what is no pair
        torch.testing.assert_close(
            actual[:, :columns], expected.reshape(1, -1, 80)[:, :columns], rtol=0, atol=1e-3
        )
        assert not actual[:, int(lengths) :].any()
        assert features(torch.zeros(1, 800), torch.tensor([700]), 80)[0].isfinite().all()


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_that_are_trained_give_every_parameter_a_gradient_but_those_never_trained(name: str) -> None:
    speech = encoder(name).train()
    fixed = {"parakeet": []}.get(name, ["model.masked_spec_embed"])
    fixed = ["model.embed_positions.weight"] if mel_of(name) else fixed
    assert not any(p.requires_grad for p in speech.requires_grad_(False).parameters())
    speech.requires_grad_(True)
    assert [n for n, p in speech.named_parameters() if not p.requires_grad] == fixed
    clips = toy_batch([row("a", 0.5)], [row("b", 0.7)], mel=mel_of(name))
    speech(clips, speech.frames_per_token(RATE)).sum().backward()
    assert [n for n, p in speech.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("name", EXTRACTORS)
@torch.no_grad()
def test_features_are_computed_as_exactly_in_mixed_precision(name: str) -> None:
    speech, batch, heard = encoder(name), toy_batch([row("a", 0.5)]), list[torch.Tensor]()
    speech.model.register_forward_pre_hook(lambda _, arguments: heard.append(arguments[0]))
    for is_mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            speech(batch, speech.frames_per_token(RATE))
    assert torch.equal(*heard)


@torch.no_grad()
def test_batch_norms_keep_their_statistics_while_an_encoder_is_trained() -> None:
    speech = encoder("parakeet")
    before = {name: values.clone() for name, values in speech.named_buffers()}
    speech.train()(toy_batch([row("a", 0.5)]), 1)
    assert all(torch.equal(values, before[name]) for name, values in speech.named_buffers())


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16),
        SEWConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16),
        SeamlessM4TConfig(),
        MoonshineConfig(),
        Wav2Vec2ConformerConfig(),
    ],
    ids=lambda config: config.model_type,
)
def test_other_encoders_are_refused_by_name(config: Any) -> None:
    known = "Whisper, Qwen2-Audio, Audio Flamingo 3, Voxtral, wav2vec 2.0, WavLM, HuBERT, .*Parakeet$"
    with pytest.raises(UsageError, match=f"found {config.model_type}, expected one of {known}"):
        encoder_config(config)


def test_an_encoder_with_an_adapter_is_refused() -> None:
    with pytest.raises(UsageError, match=r"found wav2vec2-bert with an adapter, .* add_adapter to false"):
        encoder_config(Wav2Vec2BertConfig(add_adapter=True))
