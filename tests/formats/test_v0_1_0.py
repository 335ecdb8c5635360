"""Whatever version 0.1.0 built, every later version reads, resumes and adds to.

The folder, its corpus, the digests of its rows and the states of its loaders were made once, by
v0_1_0/make_folder.py, and are never made anew. A difference here is a user's folder that broke.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from datasets import config as datasets_config
from datasets import interleave_datasets
from datasets import load_dataset
from formats.v0_1_0.make_folder import BUILDER
from formats.v0_1_0.make_folder import batch_records
from formats.v0_1_0.make_folder import digests
from formats.v0_1_0.make_folder import read_rows

import speechrows
from speechrows.cli import main
from speechrows.rows.schema import LATER_COLUMNS

HERE = Path(__file__).parent / "v0_1_0"
FOLDER = HERE / "folder"
CONFIGS = {"ttt": 15, "stage_1": 13, "stage_2": 15, "stage_3": 15, "stage_4": 15, "response": 6}


def _recorded(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text("utf-8"))


ROWS: dict[str, dict[str, str]] = _recorded("rows")
CORPUS = _recorded("corpus")
LOADS: dict[str, dict[str, Any]] = _recorded("loader_state")["loads"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may write into; as in a clone, its files have today's times."""
    return Path(shutil.copytree(FOLDER, tmp_path / "rows", copy_function=shutil.copyfile))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The corpus of the folder, its bytes and its times: a build knows it by both."""
    clips = {row_id: row["audio"]["bytes"] for row_id, row in read_rows(FOLDER).items()}
    texts: dict[str, str] = CORPUS["texts"]
    contents = {path: text.encode() for path, text in texts.items()}
    contents |= {path: clips[row_id] for path, row_id in CORPUS["clips"].items()}
    root = tmp_path / CORPUS["name"]
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        os.utime(root / path, ns=(CORPUS["mtime_ns"], CORPUS["mtime_ns"]))
    return root


# --- reading --------------------------------------------------------------------------------


def test_the_rows_are_those_that_were_written() -> None:
    assert digests(read_rows(FOLDER).values()) == ROWS


@pytest.mark.parametrize("config", CONFIGS)
def test_load_dataset_streams_every_value_of_a_config(config: str, tmp_path: Path) -> None:
    rows = load_dataset(str(FOLDER), config, split="train", streaming=True, cache_dir=str(tmp_path))
    streamed = digests(rows.decode(False))
    assert len(streamed) == CONFIGS[config]
    assert streamed == {row_id: ROWS[row_id] for row_id in streamed}


def test_load_dataset_prepares_a_config_too(tmp_path: Path) -> None:
    rows = load_dataset(str(FOLDER), "response", split="train", cache_dir=str(tmp_path))
    assert rows.num_rows == CONFIGS["response"]
    assert set(rows["row_id"]) == {row_id for row_id in ROWS if row_id.endswith("/response")}


def test_every_promise_of_validate_holds() -> None:
    assert "every promise holds" in _output("validate", str(FOLDER))


def test_stats_counts_its_turns_and_faults() -> None:
    lines = json.loads(_output("stats", str(FOLDER), "--json"))
    assert {line["config"]: line["turns"] for line in lines} == CONFIGS
    assert {line["adds"] for line in lines if line["config"] == "stage_2"} == {1}
    assert "missing" in _output("stats", str(FOLDER))  # the ledger


def test_show_prints_every_row() -> None:
    for row_id in ROWS:
        output = _output("show", str(FOLDER), row_id)
        assert row_id in output
        assert "take loss" in output


# --- loading --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADS)
def test_a_loader_gives_the_same_batches_in_the_same_order(name: str) -> None:
    recorded = LOADS[name]
    loader = speechrows.load(str(FOLDER), **recorded["load"])
    assert len(loader) == recorded["batches"]
    assert batch_records(loader) == recorded["before"] + recorded["after"]
    assert batch_records(islice(loader, len(recorded["next"]))) == recorded["next"]


@pytest.mark.parametrize("name", LOADS)
def test_a_loader_saves_the_same_state(name: str) -> None:
    recorded = LOADS[name]
    loader = speechrows.load(str(FOLDER), **recorded["load"])
    batch_records(islice(loader, len(recorded["before"])))
    state = json.loads(json.dumps(loader.state_dict()))
    assert state.pop("path") == str(FOLDER)
    assert state == {key: value for key, value in recorded["state"].items() if key != "path"}


@pytest.mark.parametrize("name", LOADS)
def test_a_saved_state_is_resumed_exactly(name: str) -> None:
    recorded = LOADS[name]
    loader = speechrows.load(str(FOLDER), **recorded["load"])
    loader.load_state_dict(recorded["state"])
    assert batch_records(loader) == recorded["after"]
    assert batch_records(islice(loader, len(recorded["next"]))) == recorded["next"]


# --- building on ----------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["ttt", "response"])
def test_the_same_build_again_writes_no_row(folder: Path, corpus: Path, task: str) -> None:
    before = _stamps(folder / "data")
    _build(task, corpus, folder)
    assert _stamps(folder / "data") == before
    assert (folder / "skipped.jsonl").read_bytes() == (FOLDER / "skipped.jsonl").read_bytes()
    _check_old_rows(folder)


def test_a_build_that_was_cut_off_resumes_to_the_same_rows(folder: Path, corpus: Path) -> None:
    (folder / "README.md").unlink()  # written last
    (folder / "data" / "ttt" / "train" / "band_2" / "00000.parquet").unlink()
    before = _stamps(folder / "data" / "response")
    _build("ttt", corpus, folder)
    assert _stamps(folder / "data" / "response") == before
    _check_old_rows(folder)


def test_another_task_is_added_beside_unchanged_rows(
    folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A mix that ends waits so long for threads of pyarrow.
    monkeypatch.setattr(datasets_config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    before = _stamps(folder / "data")
    _build("transcription", corpus, folder)
    assert before.items() <= _stamps(folder / "data").items()
    _check_old_rows(folder)
    rows = load_dataset(str(folder), "transcription", split="train", streaming=True)
    assert len(list(rows.decode(False))) == 16  # with the first turn of the conversation that lacks a clip
    old = load_dataset(str(folder), "ttt", split="train", streaming=True)
    mixed = list(interleave_datasets([old.decode(False), rows.decode(False)]))
    assert {row["task"] for row in mixed} == {"ttt", "transcription"}
    assert all(row[name] is None for row in mixed for name in LATER_COLUMNS)
    recorded = LOADS["lanes"]
    loader = speechrows.load(str(folder), **recorded["load"])
    loader.load_state_dict(recorded["state"])
    assert batch_records(loader) == recorded["after"]


def test_a_corpus_that_changed_since_is_refused_and_nothing_is_touched(
    folder: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / next(iter(CORPUS["clips"]))).touch()
    before = _stamps(folder)
    assert main(["build", BUILDER, "ttt", "--data-dir", str(corpus), "--out", str(folder)]) == 2
    message = capsys.readouterr().err
    assert "holds ttt rows of another build (listing: " in message
    assert "--overwrite" in message
    assert _stamps(folder) == before


# --- helpers --------------------------------------------------------------------------------


def _check_old_rows(folder: Path) -> None:
    """The old rows are the same, and all promises hold; columns that came later are null."""
    rows = read_rows(folder).values()
    assert all(row.pop(name, None) is None for row in rows for name in LATER_COLUMNS)
    assert digests(rows) == ROWS
    assert "every promise holds" in _output("validate", str(folder))


def _stamps(folder: Path) -> dict[str, tuple[int, str]]:
    """The time and the SHA-256 of every file, by path; but of locks, which say who holds them."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    files = {path: file for path, file in files.items() if path not in (".build/lock", ".build/workers")}
    return {
        path: (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest())
        for path, file in files.items()
    }


def _build(task: str, corpus: Path, out: Path) -> None:
    _output("build", BUILDER, task, "--data-dir", str(corpus), "--out", str(out), *CORPUS["flags"])


def _output(*arguments: str) -> str:
    """What a command prints; it has to succeed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(arguments) == 0, out.getvalue()
    return out.getvalue()
