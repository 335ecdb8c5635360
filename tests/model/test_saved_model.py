"""A run's folder is a model: it is opened without the rows, and another run begins with its weights."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub import hf_hub_download
from toys.building import build_rows
from toys.mini_hub import MiniHub
from toys.samples import XTTS
from toys.training import MODES
from toys.training import curve
from toys.training import run
from transformers import AutoModel
from transformers import AutoModelForCausalLM
from transformers import LlamaConfig
from transformers import Wav2Vec2Config

import train
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.model import checkpoint
from speechrows.model import presets
from speechrows.model.omni import Omni
from speechrows.text.tokenizers import fingerprint
from speechrows.text.tokenizers import open_tokenizer

LANES = MODES["lanes with TTT"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("saved") / "rows"
    build_rows(XTTS, out, "ttt")
    return out


@pytest.fixture(scope="module")
def trained(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("saved") / "run"
    run(rows, out, "--steps", "2", "--save-every", "1", *LANES)
    return out


def same(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    pairs = zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True)
    return all(a == b and x.equal(y) for (a, x), (b, y) in pairs)


def test_the_latest_whole_checkpoint_of_a_run_is_opened_and_computes_what_the_run_did(
    rows: Path, trained: Path, tmp_path: Path
) -> None:
    flags = ["--data", str(rows), "--output-dir", str(tmp_path / "again"), *LANES]
    trainer = train.Trainer(train.TrainConfig.parse(flags))
    latest = sorted(trained.glob("checkpoint-*"))[-1]
    checkpoint.load_weights(latest, trainer.model)
    trainer.resume(latest)
    model = Omni.load(trained)
    assert same(model, trainer.model)
    assert model.speech_lm.attention_span == "turn"
    assert fingerprint(model.tokenizer) == fingerprint(trainer.loader.tokenizer)
    batch = next(iter(trainer.loader))
    with torch.no_grad():
        assert model(batch).losses().equal(trainer.model.eval()(batch).losses())
    assert model.config.rows is not None
    assert (model.config.rows.config, model.config.rows.carries, [*model.config.rows.templates]) == (
        "ttt",
        True,
        ["ttt"],
    )
    shutil.copytree(trained, tmp_path / "torn")
    (tmp_path / "torn/checkpoint-00000002/model.safetensors").write_bytes(b"torn")
    assert same(Omni.load(tmp_path / "torn"), Omni.load(trained / "checkpoint-00000001"))


def test_a_saved_model_needs_no_run_and_names_no_path_of_this_machine(trained: Path, tmp_path: Path) -> None:
    model = Omni.load(trained)
    model.save(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "moved")
    again = Omni.load(tmp_path / "moved")
    assert same(again, model)
    assert again.config.rows == model.config.rows
    for path in (tmp_path / "moved").rglob("*.json"):
        assert str(trained.parent) not in path.read_text("utf-8")
    config = tmp_path / "moved/config.json"
    config.write_text(config.read_text("utf-8").replace('"sdpa"', '"flex_attention"'))
    flexible = Omni.load(tmp_path / "moved")
    assert flexible.config.shape.attention == "flex_attention"
    assert flexible.speech_lm.lm.config._attn_implementation == "sdpa", "nothing is compiled for each length"


def test_a_model_of_pretrained_parts_is_opened_without_them(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    wave = Wav2Vec2Config(**sizes, conv_dim=(16,) * 7, intermediate_size=32, num_conv_pos_embedding_groups=4)
    AutoModel.from_config(wave).save_pretrained(tmp_path / "encoder")
    normed = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}
    (tmp_path / "encoder/preprocessor_config.json").write_text(json.dumps(normed))
    llama = LlamaConfig(**sizes, intermediate_size=32, vocab_size=8, tie_word_embeddings=True)
    AutoModelForCausalLM.from_config(llama).save_pretrained(tmp_path / "lm")
    open_tokenizer(None).save_pretrained(tmp_path / "lm")
    preset = presets.Preset(
        encoder=str(tmp_path / "encoder"), lm=str(tmp_path / "lm"), audio_tokens_per_second=Fraction(10)
    )
    monkeypatch.setitem(presets.PRESETS, "tiny", preset)
    run(rows, tmp_path / "run", "--steps", "1", *MODES["bucket"])
    shutil.rmtree(tmp_path / "encoder")
    shutil.rmtree(tmp_path / "lm")
    model = Omni.load(tmp_path / "run")
    assert model.speech_lm.encoder.normalize
    head: Any = model.speech_lm.lm.get_output_embeddings()
    assert head.weight is model.speech_lm.lm.get_input_embeddings().weight


def test_a_run_begins_with_the_weights_of_another_and_tells_what_does_not_fit(
    rows: Path, trained: Path, tmp_path: Path, capsys: Any
) -> None:
    base = ["--steps", "1", "--init-from", str(trained)]
    lines = run(rows, tmp_path / "same", *base, *LANES)
    out = capsys.readouterr().out
    assert "--init-from" in out.splitlines()[0]
    assert "tensors fit\n" in out
    assert curve(lines)[0][0] == 1, "the run's own steps begin anew"
    fresh = run(rows, tmp_path / "fresh", "--steps", "1", *LANES)
    assert curve(lines)[0][1] < curve(fresh)[0][1]
    capsys.readouterr()
    run(rows, tmp_path / "other", *base, *MODES["bucket"])
    assert "not used: speech_lm.stateful (30)\n" in capsys.readouterr().out
    run(rows, tmp_path / "grown", "--steps", "1", "--init-from", str(tmp_path / "other"), *LANES)
    assert "62 of 62 tensors fit; begun anew: speech_lm.stateful (30)\n" in capsys.readouterr().out


def test_what_is_no_model_is_refused_by_name(trained: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(UsageError, match="found no such folder; expected the --output-dir of a run"):
        Omni.load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="found no checkpoint; expected the --output-dir of a run"):
        Omni.load(tmp_path)
    Omni.load(trained).save(tmp_path / "model")
    config = tmp_path / "model/config.json"
    values = json.loads(config.read_text("utf-8"))
    for change, message in (
        ({"format": 2, "speechrows": "9.1"}, "format 2 of speechrows 9.1, expected 1; install the version"),
        ({"format": None}, "format None"),
        ({"lm": {"model_type": "nothing"}}, "nothing"),
        ({"shape": {"presets": "tiny"}}, "presets"),
        ({"rows": {**values["rows"], "templates": {"sing": {"date": "2024-01-01"}}}}, "expected some of ttt"),
    ):
        config.write_text(json.dumps({**values, **change}))
        with pytest.raises(UsageError, match=f"config.json: is not the config of a model.*{message}"):
            Omni.load(tmp_path / "model")
    config.write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UsageError, match="KeyError"):
        Omni.load(tmp_path / "model")
    config.write_text(json.dumps(values))
    (tmp_path / "model/model.safetensors").write_bytes(b"torn")
    with pytest.raises(UsageError, match=r"model.safetensors: found .*expected the weights of the model"):
        Omni.load(tmp_path / "model")
    shutil.copytree(trained, tmp_path / "old")
    for path in (tmp_path / "old").glob("*/config.json"):
        path.unlink()
    with pytest.raises(UsageError, match=r"found no config.json.*--resume it for a step more"):
        Omni.load(tmp_path / "old")
    flags = ["--data", "x", "--output-dir", str(tmp_path / "new"), "--init-from", "nowhere"]
    assert train.main(flags) == 2


def test_a_model_on_the_hub_comes_back_and_its_card_tells_data_losses_and_evaluation(
    rows: Path, tmp_path: Path, hub: MiniHub, capsys: Any
) -> None:
    lines = run(rows, tmp_path / "run", "--steps", "1", *LANES, "--eval", f"same={rows}:ttt:train")
    model = Omni.load(tmp_path / "run")
    assert model.push_to_hub("org/talker").endswith("/org/talker")
    again = Omni.load("org/talker")
    assert same(again, model)
    assert again.config == replace(model.config, preset=again.config.preset)
    names = {*HfApi().list_repo_files("org/talker")} - {".gitattributes"}
    tokenizer = {"tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"}
    assert names == {"README.md", "config.json", "model.safetensors"} | tokenizer
    card = Path(hf_hub_download("org/talker", "README.md")).read_text("utf-8")
    assert f"- Data: rows `{rows.name}`, config `ttt` (tasks: ttt)" in card
    assert f"- Losses: text_loss {lines[0]['text_loss']:.4g}\n" in card
    assert f"- Evaluation: same/ttt/text_loss {lines[-1]['same/ttt/text_loss']:.4g}\n" in card
    assert str(tmp_path) not in card
    again.push_to_hub("org/copy")  # of no run
    assert "- Losses: none" in Path(hf_hub_download("org/copy", "README.md")).read_text("utf-8")
    with pytest.raises(StoreError, match="nobodys/talker: can not be uploaded"):
        model.push_to_hub("nobodys/talker")
    with pytest.raises(UsageError, match="model org/none: no such folder, and can not be downloaded"):
        Omni.load("org/none")
