"""`speechrows respond` as a person uses it: what it prints and writes, and the exit codes."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from toys.building import build_rows
from toys.building import made_up
from toys.samples import XTTS
from toys.training import MODES
from toys.training import run
from transformers import MimiConfig
from transformers import MimiModel

from speechrows.cli import main
from speechrows.errors import UsageError
from speechrows.generate.mimi import MimiDecoder
from speechrows.model.command import conversations
from speechrows.model.omni import Omni
from speechrows.model.session import Session

torch.set_num_threads(1)

CLIPS = sorted(map(str, XTTS.glob("data/*/health_2_4/segments/*.wav")))[:2]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on rows with codes."""
    out = tmp_path_factory.mktemp("respond")
    build_rows(XTTS, out / "transcribed", "transcription")
    codes = made_up(out / "transcribed", "mimi", out / "codes")
    build_rows(XTTS, out / "rows", "s2s_mimi", generated=(codes,))
    run(out / "rows", out / "run", "--config", "s2s_mimi", "--steps", "1", *MODES["bucket"])
    return out / "run"


@pytest.fixture(scope="module")
def mimi(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = MimiConfig(
        hidden_size=32, num_filters=4, codebook_dim=16, vector_quantization_hidden_dimension=16,
        num_hidden_layers=1, intermediate_size=64, num_attention_heads=2, num_key_value_heads=2,
        num_quantizers=9, upsample_groups=32, sliding_window=25,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("respond") / "mimi"
    MimiModel(config).save_pretrained(folder)
    return str(folder)


def test_each_clip_is_answered_by_name_as_a_session_does(
    spoken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["respond", str(spoken), *CLIPS, "--max-tokens", "4"]) == 0
    printed = capsys.readouterr().out
    session = Session(Omni.load(spoken), max_tokens=4)
    for clip, line in zip(CLIPS, printed.splitlines(), strict=True):
        answer = session.respond(clip)
        assert line == f"{clip}: {answer.text}" + " … (cut after 4 tokens)" * answer.is_cut


def test_answers_are_spoken_where_there_is_an_audio_head_and_a_codec(
    spoken: Path,
    mimi: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("speechrows.model.session._MAX_SECONDS", 0.4)
    out = tmp_path / "answer.wav"
    base = ["respond", str(spoken), *CLIPS, "--max-tokens", "2", "--out", str(out)]
    assert main([*base, "--codec", mimi]) == 0
    codes = [Session(Omni.load(spoken), max_tokens=2, speaks=True).respond(clip).codes for clip in CLIPS]
    wave, rate = soundfile.read(out, dtype="int16")
    assert rate == 24_000
    assert len(wave) == 1920 * sum(clip.shape[1] for clip in codes if clip is not None) > 0
    assert f"{out}: {len(wave) / 24_000:.2f} s of speech" in capsys.readouterr().out
    model = MimiModel.from_pretrained(mimi).eval()
    with torch.inference_mode():
        (first,) = model.decode(codes[0].unsqueeze(0)).audio_values[0].numpy()  # type: ignore[union-attr]
    assert np.abs(wave[: len(first)] - first.clip(-1, 1) * 32767).max() <= 1
    assert main([*base, "--codec", str(tmp_path / "none")]) == 2
    assert "expected a folder with a model's files" in capsys.readouterr().err
    assert (
        main(["respond", str(spoken), *CLIPS, "--out", str(tmp_path / "no/where.wav"), "--codec", mimi]) == 2
    )
    assert "where.wav: can not be written" in capsys.readouterr().err


def test_what_can_not_be_answered_is_said_in_a_line(
    spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.wav").write_bytes(
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80>\0\0\0}\0\0\2\0\x10\0data\0\0\0\0"
    )
    for arguments, message in {
        (
            str(spoken),
            CLIPS[0],
            "--task",
            "sing",
        ): "task: found sing, expected one that the model learnt",
        (str(tmp_path), CLIPS[0]): "found no checkpoint; expected the --output-dir",
        (str(spoken), CLIPS[0], str(tmp_path / "empty.wav")): "empty.wav: ",
        (str(spoken), str(tmp_path / "none.wav")): "none.wav: can not be read",
        (str(spoken), CLIPS[0], "--device", "abacus"): "device: found 'abacus'",
    }.items():
        assert main(["respond", *arguments]) == 2, arguments
        out, err = capsys.readouterr()
        assert message in err
        assert (out, err.count("\n")) == ("", 1)


def test_a_visitor_of_the_preview_talks_with_the_model_of_a_run(
    spoken: Path, mimi: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("speechrows.model.session._MAX_SECONDS", 0.16)
    monkeypatch.setattr(
        Session.__init__, "__kwdefaults__", {**Session.__init__.__kwdefaults__, "max_tokens": 2}
    )
    clip = Path(CLIPS[0]).read_bytes()
    session = Session(Omni.load(spoken), speaks=True)
    expected = session.respond(clip)
    begin = conversations(spoken, lambda _: MimiDecoder(mimi))
    text, wav = begin().hear(clip)
    assert text == expected.text
    assert wav is not None
    assert expected.codes is not None
    assert soundfile.info(io.BytesIO(wav)).frames == 1920 * expected.codes.shape[1]

    def missing(name: str) -> MimiDecoder:
        raise UsageError(f"--model {name}: is not there")

    assert conversations(spoken, missing)().hear(clip) == (expected.text, None)
    assert "answers are written, and not spoken: --model kyutai/mimi: is not there" in capsys.readouterr().out
