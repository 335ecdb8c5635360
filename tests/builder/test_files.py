"""A builder that is a file, hyphen and all, does what an installed one does."""

import pickle
import shlex
import sys
from pathlib import Path

import pytest
from toys.building import build_rows
from toys.building import plain
from toys.building import published_files
from toys.building import read_rows
from toys.endpoint import Said
from toys.endpoint import ToyEndpoint
from toys.mini_hub import MiniHub
from toys.processes import run_python
from toys.publishing import files_of
from toys.samples import SAMPLES
from toys.samples import XTTS

from speechrows.builder import load_builder
from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.infos import infos
from speechrows.cli import main
from speechrows.errors import UsageError
from speechrows.validation.validate import validate

# Its config and its payloads are of classes that only the file has.
CODE = """
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

from deepdialogue_ttt import ABOUT
from deepdialogue_ttt import DeepDialogueConfig
from deepdialogue_ttt import DeepDialogueReader
from speechrows.builder import DIALOGUE_CONFIGS
from speechrows.builder import Listing
from speechrows.builder import SpeechBuilder
from speechrows.builder import Unit


@dataclass
class Config(DeepDialogueConfig):
    pass


@dataclass(frozen=True)
class Payload:
    unit: Unit[Any]


class Reader:
    def __init__(self, corpus, config, task):
        self.reader = DeepDialogueReader(corpus, config, task)

    def units(self, entries):
        listing = self.reader.units(entries)
        units = [replace(unit, payload=Payload(unit)) for unit in listing.units]
        return Listing(contents=listing.contents, units=units)

    def dialogues(self, unit):
        yield from self.reader.dialogues(unit.payload.unit)


class Builder(SpeechBuilder):
    ABOUT = ABOUT
    READER = Reader
    BUILDER_CONFIG_CLASS = Config
    BUILDER_CONFIGS = [Config(name=name) for name in DIALOGUE_CONFIGS]
"""
SMALL = 500_000  # bytes of a shard: several in the sample
IN_A_FRESH_PROCESS = """
import pickle, sys
tables, kwargs = pickle.load(open(sys.argv[1], "rb"))
print(sum(len(table) for _, table in tables(**kwargs)))
"""


@pytest.fixture(params=["my-corpus", "MyCorpus"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A builder's file; no import finds it."""
    monkeypatch.delitem(sys.modules, request.param, raising=False)
    path = tmp_path / "code" / f"{request.param}.py"
    path.parent.mkdir()
    path.write_text(CODE)
    return path


@pytest.mark.parametrize("file", ["my-corpus"], indirect=True)  # processes are slow to start
def test_two_processes_build_the_files_of_one_and_ids_begin_with_the_stem(file: Path, tmp_path: Path) -> None:
    for num_proc in (1, 2):
        build_rows(XTTS, tmp_path / str(num_proc), builder=str(file), num_proc=num_proc, shard_bytes=SMALL)
    files = published_files(tmp_path / "1")
    assert files == published_files(tmp_path / "2")
    assert len([path for path in files if path.startswith("data/")]) > 1
    assert all(row["row_id"].startswith(f"{file.stem}/train/") for row in read_rows(tmp_path / "1"))
    assert validate(str(tmp_path / "1")).ok


def test_the_command_on_its_card_builds_it_again_where_the_file_is(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_rows(XTTS, tmp_path / "rows", "transcription", builder=str(file))
    card = (tmp_path / "rows/README.md").read_text("utf-8")
    [command] = [line for line in card.splitlines() if line.startswith("speechrows build")]
    words = shlex.split(command.replace("--tokenizer tokenizer", f"--tokenizer {tmp_path}/rows/tokenizer"))
    assert words[2] == file.name
    assert words[-1] == f"rows/{file.stem}"
    monkeypatch.chdir(file.parent)
    words[words.index("--data-dir") + 1] = str(SAMPLES / words[words.index("--data-dir") + 1])
    assert main(words[1:]) == 0
    assert published_files(file.parent / words[-1]) == published_files(tmp_path / "rows")


def test_it_is_a_builder_of_datasets_in_processes_and_streams(file: Path, tmp_path: Path) -> None:
    builder = load_builder(str(file))(config_name="ttt", data_dir=str(XTTS), cache_dir=str(tmp_path / "a"))
    builder.config.shard_bytes = SMALL
    builder.download_and_prepare(num_proc=2)
    rows = plain(builder.as_dataset(split="train"))
    assert len(rows) == 17
    assert plain(builder.as_streaming_dataset(split="train")) == rows


@pytest.mark.parametrize("file", ["my-corpus"], indirect=True)  # processes are slow to start
def test_a_process_that_never_loaded_its_file_makes_its_rows(file: Path, tmp_path: Path) -> None:
    builder: SpeechBuilder = load_builder(str(file))(config_name="ttt", data_dir=str(XTTS))
    [split] = builder._split_generators(None)
    (tmp_path / "work").write_bytes(pickle.dumps((builder._generate_tables, split.gen_kwargs)))
    assert run_python(IN_A_FRESH_PROCESS, tmp_path / "work").split() == ["17"]


def test_answers_are_generated_for_it_and_joined(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    build = ["build", file.name, "sift_s", "--data-dir", str(XTTS), "--out", "rows"]
    assert main(build) == 2
    assert (
        f"speechrows generate sift --mode sift_s --source {file.name} --data-dir" in capsys.readouterr().err
    )
    with ToyEndpoint(lambda user, times: Said("I see.")) as toy:
        generate = ["generate", "sift", "--mode", "sift_s", "--source", file.name, "--data-dir", str(XTTS)]
        assert main([*generate, "--endpoint", toy.url, "--model", "toy", "--out", "answers"]) == 0
    assert main([*build, "--with", "answers"]) == 0
    assert len(read_rows(file.parent / "rows", "sift_s")) == 17


def test_its_published_card_loads_the_repository(file: Path, tmp_path: Path, hub: MiniHub) -> None:
    build_rows(XTTS, tmp_path / "rows", builder=str(file))
    assert f'load_dataset("org/{file.stem}", "ttt"' in (tmp_path / "rows/README.md").read_text("utf-8")
    assert main(["publish", str(tmp_path / "rows"), "org/of-a-file"]) == 0
    card = files_of(hub, "org/of-a-file")["README.md"].decode()
    assert 'load_dataset("org/of-a-file", "ttt"' in card
    assert f"speechrows build {file.name} ttt" in card
    hub.repos.clear()


def test_its_infos_bear_its_stem(file: Path) -> None:
    assert infos([str(file)])[f"{file.stem}/ttt"]["builder_name"] == file.stem


def test_an_installed_builder_is_named_as_a_module_however_it_was_given(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "rows", builder=str(SAMPLES.parent / "deepdialogue_ttt.py"))
    assert "\nspeechrows build deepdialogue_ttt ttt" in (tmp_path / "rows/README.md").read_text("utf-8")


def test_a_name_with_a_dot_is_refused_and_a_file_that_fails_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "my.corpus.py").write_text(CODE)
    with pytest.raises(UsageError, match=r"my\.corpus\.py: found a dot in its name; expected one without"):
        load_builder(str(tmp_path / "my.corpus.py"))
    (tmp_path / "halfway.py").write_text("import nothing_of_this_name")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            load_builder(str(tmp_path / "halfway.py"))
