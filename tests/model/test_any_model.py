"""train.py on an encoder and a language model of one's own, in the place of a preset's."""

import re
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from toys.building import build_rows
from toys.encoders import ENCODERS
from toys.encoders import SIZES
from toys.samples import XTTS
from toys.training import MODES
from toys.training import curve
from toys.training import run
from transformers import AutoModel
from transformers import AutoModelForCausalLM
from transformers import LlamaConfig
from transformers import PreTrainedConfig
from transformers import PreTrainedModel
from transformers import Wav2Vec2FeatureExtractor

import train
from speechrows.errors import UsageError
from speechrows.model.omni import Omni
from speechrows.model.presets import PRESETS
from speechrows.model.presets import speech_lm
from speechrows.model.session import Session
from speechrows.model.shape import ModelShape
from speechrows.text.tokenizers import open_tokenizer

torch.set_num_threads(1)

TEXT = {**SIZES, "vocab_size": 40}
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {  # models that hear and write, and the place of what hears
    "qwen2-audio": (
        "Qwen2AudioForConditionalGeneration",
        {"audio_config": ENCODERS["qwen2-audio"], "text_config": transformers.Qwen2Config(**TEXT)},
    ),
    "voxtral": (
        "VoxtralForConditionalGeneration",
        {"audio_config": ENCODERS["voxtral"], "text_config": LlamaConfig(**TEXT)},
    ),
    "parakeet": (
        "ParakeetForCTC",
        {"encoder_config": ENCODERS["parakeet"], "vocab_size": 8, "pad_token_id": 0},
    ),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rows")
    build_rows(XTTS, out, "ttt")
    return out


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "lm"
    AutoModelForCausalLM.from_config(LlamaConfig(**TEXT)).save_pretrained(folder)
    open_tokenizer(None).save_pretrained(folder)
    return folder


def saved(config: PreTrainedConfig, folder: Path) -> Path:
    """A folder with an encoder of random weights."""
    torch.manual_seed(0)
    config = deepcopy(config)
    if hasattr(config, "num_mel_bins"):
        config.num_mel_bins = 80  # as the loader has them
    AutoModel.from_config(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["hubert", "qwen2-audio", "voxtral", "w2v-bert", "parakeet"])
def test_a_run_of_an_encoder_and_a_language_model_of_one_s_own_is_a_model_without_them(
    name: str, rows: Path, lm: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = saved(ENCODERS[name], tmp_path / "my-encoder")
    flags = ["--encoder", str(folder), "--lm", str(lm), "--rate", "6.25", "--steps", "2"]
    lines = run(rows, tmp_path / "run", *flags, *MODES["bucket"])
    assert len(curve(lines)) == 2
    assert f"(tiny, encoder {folder}, lm {lm}, rate 6.25) on" in capsys.readouterr().out
    shutil.rmtree(folder)
    model = Omni.load(tmp_path / "run")
    assert model.config.shape.encoder == "my-encoder", "a place on this machine is no one else's business"
    assert model.speech_lm.encoder.model.config.model_type == ENCODERS[name].model_type
    assert model.config.preset.rate == 6.25
    assert model.speech_lm.encoder.normalize == (name == "hubert")
    Session(model, max_tokens=2).respond(next(XTTS.rglob("*.wav")))


@pytest.mark.parametrize("name", WHOLE)
def test_of_a_model_that_hears_and_writes_the_encoder_alone_is_read(name: str, tmp_path: Path) -> None:
    kind, parts = WHOLE[name]
    config = getattr(transformers, kind).config_class(**parts)
    whole: PreTrainedModel = getattr(transformers, kind)(config)
    whole.save_pretrained(tmp_path)
    part: Any = getattr(getattr(whole, "model", whole), "encoder" if name == "parakeet" else "audio_tower")
    preset = replace(PRESETS["tiny"], encoder=str(tmp_path))
    encoder = speech_lm(preset, open_tokenizer(None)).encoder
    assert all(torch.equal(*pair) for pair in zip(encoder.parameters(), part.parameters(), strict=True))


def test_what_does_not_fit_is_refused_in_a_line(rows: Path, lm: Path, tmp_path: Path, capsys: Any) -> None:
    bert = tmp_path / "bert"
    transformers.BertConfig().save_pretrained(bert)
    parakeet = saved(ENCODERS["parakeet"], tmp_path / "parakeet")
    hybrid = tmp_path / "hybrid"
    config = transformers.Lfm2Config(**TEXT, num_key_value_heads=2, layer_types=["conv", "full_attention"])
    AutoModelForCausalLM.from_config(config).save_pretrained(hybrid)
    open_tokenizer(None).save_pretrained(hybrid)
    base = ["--data", str(rows), "--steps", "1", *MODES["bucket"]]
    for i, (flags, message) in enumerate({
        ("--encoder", str(bert)): f"encoder {bert}: speech encoder: found bert, expected one of Whisper, ",
        ("--encoder", "nowhere/at/all"): "model nowhere/at/all: no such folder in ",
        ("--lm", str(tmp_path)): f"{tmp_path}",
        ("--lm", str(hybrid)): "language model Lfm2ForCausalLM: the second segment of a packed sequence",
        ("--rate", "20"): "found 20, .* encoder's 50 frames a second: --rate 25 or 12.5 or 10",
        ("--encoder", str(parakeet), "--rate", "25"): "encoder's 12.5 frames a second: --rate 12.5 or 6.25",
    }.items()):  # fmt: skip
        assert train.main([*base, "--output-dir", str(tmp_path / f"run {i}"), *flags]) == 2
        error = capsys.readouterr().err.rpartition("train.py: ")[2]
        assert error.count("\n") == 1, error
        assert re.search(message, error), error


def test_a_shape_names_its_parts() -> None:
    shape = ModelShape(encoder="openai/whisper-small", rate=10)
    assert shape.name == "tiny, encoder openai/whisper-small, rate 10"
    assert shape.parts.tokenizer is None
    assert ModelShape(lm="org/lm").parts.tokenizer == "org/lm"
    with pytest.raises(UsageError, match=r"found 0\.3, "):
        speech_lm(ModelShape(rate=0.3).parts, open_tokenizer(None))
