"""Five public data sets: copies of their shapes, made here, are built by the page's commands as printed."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import Audio
from datasets import Dataset
from toys.audio import encoded
from toys.building import read_rows
from toys.mini_hub import MiniHub
from toys.odd_clips import voice
from toys.samples import ROOT

import speechrows
from speechrows.audio import decode
from speechrows.cli import main
from speechrows.validation.validate import validate

PAGE = (ROOT / "docs/your-data.md").read_text("utf-8")
COMMANDS = re.findall(r"^speechrows build .*$", PAGE.partition("## Five public data sets")[2], re.MULTILINE)
RATE = 16_000


def clip(seconds: float, hz: float = 220, container: str = "WAV") -> bytes:
    return encoded(voice(int(seconds * RATE), hz) * 0.4, RATE, container)


def librispeech(folder: Path) -> None:
    """<subset>/<reader>/<chapter>/<reader>-<chapter>-<number>.flac, and a transcript a chapter."""
    for subset, reader in (("train-clean-100", "103"), ("dev-clean", "84")):
        chapter = folder / "LibriSpeech" / subset / reader / "1240"
        chapter.mkdir(parents=True)
        names = [f"{reader}-1240-{number:04}" for number in range(2)]
        for name in names:
            (chapter / f"{name}.flac").write_bytes(clip(0.5, container="FLAC"))
        lines = [f"{name} CHAPTER ONE OF {name[-1]}\n" for name in names]
        (chapter / f"{reader}-1240.trans.txt").write_text("".join(lines), "utf-8")


def common_voice(folder: Path) -> None:
    """en/clips/*.mp3, and a table a split of client_id, path, sentence and what is known of the voice."""
    names = ("client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accents", "locale")
    (folder / "cv-corpus/en/clips").mkdir(parents=True)
    for number, split in enumerate(("train", "dev", "test", "other")):
        name = f"common_voice_en_{number}.mp3"
        (folder / "cv-corpus/en/clips" / name).write_bytes(clip(0.5, container="MP3"))
        cells = (f"c{number}", name, 'He said "no", twice.', "2", "0", "twenties", "male_masculine", "", "en")
        text = "\t".join(names) + "\n" + "\t".join(cells) + "\n"
        (folder / f"cv-corpus/en/{split}.tsv").write_text(text, "utf-8")


def peoples_speech(_folder: Path) -> None:
    """A data set of the Hub: parquet of id, audio, duration_ms, text."""
    values = {
        "id": [f"call/{i}.flac" for i in range(2)],
        "audio": [{"bytes": clip(0.5, container="FLAC"), "path": f"{i}.flac"} for i in range(2)],
        "duration_ms": [500, 500],
        "text": ["it was a good year", "thank you"],
    }
    dataset = Dataset.from_dict(values).cast_column("audio", Audio(sampling_rate=RATE, decode=False))
    dataset.push_to_hub("MLCommons/peoples_speech", "clean", data_dir="clean")


def fisher(folder: Path) -> None:
    """A recording of two channels a call, and its cut with supervisions that overlap, as lhotse writes it."""
    lhotse = pytest.importorskip("lhotse")
    (folder / "fisher").mkdir()
    call = np.stack([voice(4 * RATE, 220), voice(4 * RATE, 330)], axis=1) * 0.4
    (folder / "fisher/fe_03_00001.wav").write_bytes(encoded(call, RATE, "WAV"))
    recording = lhotse.Recording.from_file(folder / "fisher/fe_03_00001.wav", recording_id="fe_03_00001")
    recording.sources[0].source = "fe_03_00001.wav"
    spoken = [(0.0, 1.5, 0, "hello"), (1.25, 1.0, 1, "hi there"), (2.5, 1.25, 0, "how are you")]
    supervisions = [
        lhotse.SupervisionSegment(
            id=f"s{i}", recording_id="fe_03_00001", start=at, duration=seconds, channel=channel, text=text,
            speaker=f"fe_03_00001-{'AB'[channel]}",
        )
        for i, (at, seconds, channel, text) in enumerate(spoken)
    ]  # fmt: skip
    cut = recording.to_cut()
    cut.supervisions = supervisions
    lhotse.CutSet.from_cuts([cut]).to_file(folder / "fisher/cuts.jsonl.gz")


def swift(folder: Path) -> None:
    """JSON lines of messages and audios, paths beside them."""
    (folder / "swift/audio").mkdir(parents=True)
    (folder / "swift/audio/0.wav").write_bytes(clip(0.5))
    asked = {"messages": [{"role": "user", "content": "<audio>What is this?"}], "audios": ["audio/0.wav"]}
    asked["messages"].append({"role": "assistant", "content": "A tone."})
    plain = {"messages": [{"role": "user", "content": "Two and two?"}, {"role": "assistant", "content": "4"}]}
    (folder / "swift/train.jsonl").write_text(f"{json.dumps(asked)}\n{json.dumps(plain)}\n", "utf-8")


SHAPES: dict[str, tuple[Callable[[Path], None], int]] = {
    "librispeech": (librispeech, 4),
    "common_voice": (common_voice, 3),
    "peoples_speech": (peoples_speech, 2),
    "fisher": (fisher, 3),
    "swift": (swift, 2),
}


def test_the_page_has_a_command_for_each() -> None:
    assert [shlex.split(command)[-1] for command in COMMANDS] == [f"rows/{name}" for name in SHAPES]


@pytest.mark.parametrize("command", COMMANDS, ids=SHAPES)
def test_a_public_data_set_is_built_by_the_command_as_printed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: MiniHub
) -> None:
    name = command.rpartition("/")[2]
    make, num_rows = SHAPES[name]
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    config = shlex.split(command)[3]
    assert validate(f"rows/{name}").ok
    splits = [path.stem for path in (tmp_path / "rows" / name / "index" / config).glob("*.parquet")]
    loaders = [speechrows.load(f"rows/{name}", config, split, budget_tokens=2000) for split in splits]
    assert sum(len(batch) for loader in loaders for batch in loader) == num_rows


def test_a_call_keeps_its_times_its_overlap_and_its_channels(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fisher(tmp_path)
    assert main(shlex.split(next(line for line in COMMANDS if "fisher" in line))[1:]) == 0
    rows = read_rows(tmp_path / "rows/fisher", "ttt")
    assert [(row["start_s"], row["speaker"][-1], row["role"]) for row in rows] == [
        (0.0, "A", "user"),
        (1.25, "B", "assistant"),
        (2.5, "A", "user"),
    ]
    whole = decode((tmp_path / "fisher/fe_03_00001.wav").read_bytes())[0]
    for row, (first, count, channel) in zip(rows, ((0, 1.5, 0), (1.25, 1, 1), (2.5, 1.25, 0)), strict=True):
        span = slice(int(first * RATE), int((first + count) * RATE))
        np.testing.assert_array_equal(decode(row["audio"]["bytes"])[0], whole[span, channel : channel + 1])
