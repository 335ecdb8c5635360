"""benchmarks/learning.py in short: corpora become the rows that it needs; what it compares is equal."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from toys.building import read_rows

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # last: its modules have plain names

from learn import codec
from learn import corpus
from learn import espeak
from learn import grammar
from learn import plain_loop
from learn import recall_speech
from learn import recall_tokens
from learn import tones


@pytest.fixture
def without_espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words are tones, not speech."""

    def speak(text: str, *, voice: str, words_a_minute: int) -> Any:
        generator = np.random.default_rng(words_a_minute)
        numbers = (len(word) * ord(word[0]) % 8 for word in text.split())
        return np.concatenate([tones.tone(tones.LETTERS[i], 0.2, generator) for i in numbers])

    monkeypatch.setattr(espeak, "speak", speak)
    monkeypatch.setattr(espeak, "sampling_rate", lambda: tones.RATE)


def samples_of(row: dict[str, Any]) -> Any:
    return soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")[0]


def test_a_value_of_an_earlier_step_has_a_gradient_only_where_the_state_carries_it() -> None:
    steps, values = recall_tokens.conversations(torch.Generator().manual_seed(0))
    shown = slice(recall_tokens.FIRST_VALUE, recall_tokens.FIRST_WORD)
    reached: dict[str, bool] = {}
    for name, way in recall_tokens.WAYS.items():
        model = recall_tokens.Model(way)
        torch.nn.functional.cross_entropy(model(steps), values).backward()
        gradient = model.lm.model.embed_tokens.weight.grad
        assert gradient is not None
        reached[name] = bool(gradient[shown].any())
    assert reached == {"carried": False, "gradient": True, "reset": False, "none": False}


def test_what_is_recalled_is_measured_by_distance_and_drawn(tmp_path: Path) -> None:
    distances = (1, 2)
    corpus.write_corpus(tmp_path / "corpus", recall_speech.conversations(8, distances), tones.RATE)
    corpus.build(tmp_path / "corpus", tmp_path / "rows", "ttt", "--validation-fraction", "0.5")
    texts: dict[str, list[str]] = {}
    for row in read_rows(tmp_path / "rows"):
        texts.setdefault(row["conversation_id"], []).append(row["transcript"])
    assert {len(turns) for turns in texts.values()} == {2, 3}
    assert all(turns[0] == turns[-1] and set(turns[1:-1]) <= {"-"} for turns in texts.values())

    flags = recall_speech.flags_of(tmp_path / "rows", layers=1, steps=1, distances=distances)
    trained = recall_speech.train(tmp_path / "run", flags)
    carried = recall_speech.accuracy(trained, is_reset=False)
    assert carried.keys() <= {1, 2}
    assert carried
    chart = recall_speech.chart({"carried": {"accuracy": carried}, "chance": 0.125})
    chart.save(tmp_path / "chart.png")
    assert Image.open(tmp_path / "chart.png").size == (720, 400)
    assert (tmp_path / "chart.png").stat().st_size < 40_000


@pytest.mark.usefixtures("without_espeak")
def test_a_grammar_s_held_out_rows_share_nothing_with_what_is_trained_on(tmp_path: Path) -> None:
    chance = grammar.write(tmp_path, 6, 3)
    trained, held_out, shuffled = (
        read_rows(tmp_path / f"{name}-rows", "transcription") for name in ("trained", *grammar.SETS)
    )
    assert (len(trained), len(held_out)) == (6, 3)
    assert not {row["transcript"] for row in trained} & {row["transcript"] for row in held_out}
    assert not {*grammar.TRAINED.voices} & {*grammar.HELD_OUT.voices}
    assert not {*grammar.TRAINED.rates} & {*grammar.HELD_OUT.rates}
    clips = [row["audio"]["bytes"] for row in held_out]
    assert [row["audio"]["bytes"] for row in shuffled] == clips[1:] + clips[:1]
    assert [row["transcript"] for row in shuffled] == [row["transcript"] for row in held_out]
    assert 0.5 < chance <= 1


def test_without_espeak_a_grammar_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(SystemExit, match=r"pip install -r benchmarks/requirements-learn\.txt"):
        espeak.speak("take two red cups", voice="en-us", words_a_minute=160)


def test_codes_follow_from_the_clip_of_their_row_and_from_no_other(tmp_path: Path) -> None:
    codec.write(tmp_path, 2, 3)
    same: dict[str, float] = {}
    for name in ("held-out", "shuffled"):
        rows = read_rows(tmp_path / f"{name}-rows", "s2s_mimi")
        pairs = [(codec.quantised(samples_of(row))[0], row["codec_targets"][0]) for row in rows]
        same[name] = float(np.mean([np.mean(of_clip == of_row) for of_clip, of_row in pairs]))
    assert same["held-out"] == 1
    assert same["shuffled"] < 0.5


def test_the_plain_loop_has_the_losses_of_train_py(tmp_path: Path) -> None:
    plain_loop.write(tmp_path, 8)
    ours = plain_loop.losses_of_train(tmp_path, 3)
    theirs = plain_loop.losses_of_loop(tmp_path / "rows", 3)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert len({*ours}) == 3
