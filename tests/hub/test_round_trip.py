"""From a corpus on the Hub to rows on the Hub, with the real clients and a Hub on loopback."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import load_dataset
from huggingface_hub import HfApi
from toys.building import build_rows
from toys.building import plain
from toys.building import published_files
from toys.building import read_rows
from toys.mini_hub import MiniHub
from toys.samples import XTTS

from deepdialogue_ttt import DeepDialogueTTT
from speechrows.corpora.folder import Corpus
from speechrows.errors import StoreError
from speechrows.folder.stats import stats
from speechrows.validation.validate import validate

SOURCE = "SALT-Research/DeepDialogue-xtts"
BUILT = "org/deepdialogue_ttt"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of the same corpus from a local folder of the repository's name."""
    folder = tmp_path_factory.mktemp("local") / "DeepDialogue-xtts"
    shutil.copytree(XTTS, folder)
    build_rows(folder, folder.parent / "rows")
    return folder.parent / "rows"


@pytest.fixture(scope="module")
def corpus(expected: Path) -> Iterator[str]:
    api = HfApi()
    api.create_repo(SOURCE, repo_type="dataset", exist_ok=True)
    api.upload_folder(repo_id=SOURCE, repo_type="dataset", folder_path=XTTS)
    yield SOURCE
    api.delete_repo(SOURCE, repo_type="dataset")


@pytest.fixture(scope="module")
def rows(expected: Path) -> Iterator[str]:
    api = HfApi()
    api.create_repo(BUILT, repo_type="dataset", exist_ok=True)
    api.upload_folder(repo_id=BUILT, repo_type="dataset", folder_path=expected, ignore_patterns=".build/**")
    yield BUILT
    api.delete_repo(BUILT, repo_type="dataset")


def test_the_class_downloads_the_corpus_through_its_download_manager(
    hub: MiniHub, corpus: str, expected: Path, tmp_path: Path
) -> None:
    builder = DeepDialogueTTT(config_name="ttt", source=corpus, cache_dir=str(tmp_path))
    builder.download_and_prepare()
    assert plain(builder.as_dataset(split="train")) == read_rows(expected)
    assert not [request for request in hub.log if request[2] >= 500]


def test_the_class_streams_from_the_hub(corpus: str, expected: Path, tmp_path: Path) -> None:
    builder = DeepDialogueTTT(config_name="stage_1", source=corpus, cache_dir=str(tmp_path))
    assert plain(builder.as_streaming_dataset(split="train")) == read_rows(expected)


def test_a_build_from_the_hub_gives_the_bytes_of_a_build_from_disk(
    corpus: str, expected: Path, tmp_path: Path
) -> None:
    build_rows(f"hf://datasets/{corpus}", tmp_path / "rows")
    assert published_files(tmp_path / "rows") == published_files(expected)


def test_rows_on_the_hub_load_stream_and_validate(rows: str, expected: Path, tmp_path: Path) -> None:
    loaded = load_dataset(rows, "stage_2", split="train", cache_dir=str(tmp_path))
    assert plain(loaded) == read_rows(expected)
    assert plain(load_dataset(rows, "stage_2", split="train", streaming=True)) == read_rows(expected)
    report = validate(rows)
    assert report.ok, str(report)
    assert report.checked["rows"] == 17
    assert stats(rows) == stats(str(expected))


def test_a_store_that_does_not_answer_is_asked_again_and_never_taken_for_a_fault(
    hub: MiniHub, corpus: str, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus_there = Corpus.open(f"hf://datasets/{corpus}")
    path = next(entry.path for entry in corpus_there.list() if entry.path.endswith(".wav"))
    monkeypatch.setattr("speechrows.storage.retry.PAUSES", (0.0, 0.0))  # seconds, not what is tested
    hub.hub.fail_next = [(403, "busy")] * 2
    assert corpus_there.read(path) == (XTTS / path).read_bytes()
    hub.hub.fail_next = [(403, "busy")] * 50
    with pytest.raises(StoreError, match="the store did not answer"):
        corpus_there.read(path)
    hub.hub.fail_next = []
    with pytest.raises(FileNotFoundError):
        corpus_there.read("data/nowhere.wav")
