"""docs/adding-a-corpus.md: its code, run as it stands there, gives the rows and the faults that it says."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from datasets import load_dataset
from toys.building import plain
from toys.building import read_rows
from toys.samples import ROOT
from toys.samples import XTTS

import speechrows.builder
from speechrows.cli import main

PAGE = (ROOT / "docs/adding-a-corpus.md").read_text("utf-8")
DIALOGUES = XTTS / "data"
CLIPS = {  # of real speech, that says what the page's table has
    "c1_0": DIALOGUES / "dialogues_llama3-8B_cohere7B/health_2_4/segments/001_LLM1_sad.wav",
    "c1_1": DIALOGUES / "dialogues_llama3-8B_cohere7B/health_2_4/segments/002_LLM2_neutral.wav",
    "c1_2": DIALOGUES / "dialogues_llama3-8B_cohere7B/health_2_4/segments/003_LLM1_angry.wav",
    "c2_0": DIALOGUES / "dialogues_phi4-mini/travel_2_3/segments/001_LLM1_sad.wav",
    "c2_1": DIALOGUES / "dialogues_phi4-mini/travel_2_3/segments/002_LLM2_surprised.wav",
}


def blocks(language: str) -> list[str]:
    """The page's code blocks of a language, in order."""
    return [
        text for kind, text in re.findall(r"^```(\w*)\n(.*?)\n```$", PAGE, re.M | re.S) if kind == language
    ]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's module and corpus, to work in."""
    clips = tmp_path / "calls/clips"
    clips.mkdir(parents=True)
    for name, clip in CLIPS.items():
        shutil.copy(clip, clips / f"{name}.wav")
    (tmp_path / "calls/calls.csv").write_text(blocks("csv")[0] + "\n", "utf-8")
    [code] = blocks("python")
    (tmp_path / "my_corpus.py").write_text(code + "\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_corpus", raising=False)
    return tmp_path


def run(block: str) -> None:
    for command in block.splitlines():
        name, *arguments = shlex.split(command)
        assert name == "speechrows"
        assert main(arguments) == 0, command


def test_its_commands_build_validated_rows_of_whole_conversations(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(blocks("sh")[0])
    printed = capsys.readouterr().out
    assert blocks("")[1] in printed
    assert "rows/calls: every promise holds (7 rows, 4 conversations)" in printed
    assert "row_id               my_corpus/train/calls/c1/1/ttt\n" in printed
    rows = plain(load_dataset("rows/calls", "ttt", split="train", cache_dir=str(here / "cache")))
    assert rows == read_rows(here / "rows/calls")
    assert [row["row_id"] for row in rows] == [
        f"my_corpus/train/calls/{name.replace('_', '/')}/ttt" for name in CLIPS
    ]
    assert [row["audio"]["bytes"] for row in rows] == [clip.read_bytes() for clip in CLIPS.values()]
    assert [row["role"] for row in rows] == ["user", "assistant", "user", "user", "assistant"]
    assert rows[2]["transcript"] == "Work, mostly. The deadline moved again."
    answers = read_rows(here / "rows/calls", "response")
    assert [row["messages"][1]["content"] for row in answers] == [
        rows[1]["transcript"],
        rows[4]["transcript"],
    ]


def test_what_is_wrong_is_counted_and_listed_as_it_says(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (here / "calls/calls.csv").open("a", encoding="utf-8") as file:
        file.write(blocks("csv")[1] + "\n")
    build = blocks("sh")[1]
    assert main(shlex.split(build.partition(" --max-skipped")[0])[1:]) == 1
    assert "3 of 9 items and 1 of 5 metadata files are faulty" in capsys.readouterr().err
    shutil.rmtree(here / "rows/faulty")  # else the build goes on, and says so
    run(build)
    assert blocks("")[3] in capsys.readouterr().out
    listed = (here / "rows/faulty/skipped.jsonl").read_text("utf-8")
    assert listed.splitlines() == blocks("json")[0].splitlines()
    run(build.replace("transcription", "ttt"))
    lines = [
        json.loads(line) for line in (here / "rows/faulty/skipped.jsonl").read_text("utf-8").splitlines()
    ]
    incomplete = [line["clip_id"] for line in lines if line["reason"] == "dialogue_incomplete"]
    assert incomplete == ["calls/c3/1", "calls/c3/2"]
    run("speechrows validate rows/faulty")


def test_its_flag_is_a_flag(here: Path) -> None:
    run("speechrows build my_corpus.py ttt --data-dir calls --out rows/swapped --swap-roles")
    assert [row["role"] for row in read_rows(here / "rows/swapped")][:2] == ["assistant", "user"]


def test_it_explains_every_name_of_the_one_import() -> None:
    explained = PAGE.partition("## The names")[2]
    assert [name for name in speechrows.builder.__all__ if f"`{name}" not in explained] == []
    [code] = blocks("python")
    imported = set(re.findall(r"^(?:from|import) (\S+)", code, re.M))
    assert {name for name in imported if "speechrows" in name} == {"speechrows.builder"}
