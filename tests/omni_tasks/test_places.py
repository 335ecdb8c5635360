"""Sources are found wherever they lie: alone, beside others, by every name, in a remote store."""

import re
import shutil
from typing import Any

import fsspec
import pytest
from toys.omni import COMMON_VOICE
from toys.omni import HUB
from toys.omni import LOQUACIOUS
from toys.omni import MIMI
from toys.omni import build
from toys.omni import everything
from toys.omni import in_words
from toys.omni import only
from toys.omni import read
from toys.omni import readers

from omni_tasks import CONFIGS
from omni_tasks import SOURCES
from omni_tasks import OmniConfig
from omni_tasks import OmniReader
from speechrows.corpora import parquet
from speechrows.corpora.folder import Corpus
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.rows.curriculum import task_of
from speechrows.types import Dialogue


@pytest.mark.parametrize("where", ["hub/speechbrain/LoquaciousSet", "hub/speechbrain", "hub"])
def test_a_source_is_read_alone_under_its_organisation_or_beside_others(where, tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    ids = [dialogue.conversation_id for dialogue in read(hub.parent / where)]
    assert ids == ["LoquaciousSet/train/utt00001", "LoquaciousSet/train/utt00003"]


@pytest.mark.parametrize(
    "file",
    [
        *("train-00000-of-00001.parquet", "data/train-00000-of-00001-0123456789abcdef.parquet"),
        *("default/train/0000.parquet", "data/train.parquet", "data/train.clean.360-00000-of-00002.parquet"),
    ],
)
def test_files_are_found_under_every_name_that_the_hub_gives_them(file, tmp_path):
    place = tmp_path / "mazesmazes" / "libritts-mimi" / file
    place.parent.mkdir(parents=True)
    shutil.copy(HUB / MIMI, place)
    split = "train.clean.360" if "360" in file else "train"
    expected = [f"libritts-mimi/{split}/{place.stem}:{row}" for row in (0, 1)]
    assert [dialogue.conversation_id for dialogue in read(tmp_path)] == expected


def test_a_folder_called_data_is_its_parents(tmp_path):
    shutil.copytree(HUB / "garam-icecream/MELD", tmp_path / "MELD")
    assert [dialogue.conversation_id for dialogue in read(tmp_path / "MELD" / "data")] == [
        f"MELD/train/train-00000-of-00001:{row}" for row in (0, 1)
    ]


@pytest.mark.parametrize("again", ["libritts-mimi/data/", "mazesmazes/libritts-mimi/", "libritts-mimi/"])
def test_one_file_in_two_places_is_refused(again, tmp_path):
    hub = only(tmp_path, MIMI)
    copy = hub / again / MIMI.rpartition("/")[2]
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(hub / MIMI, copy)
    with pytest.raises(UsageError, match=f"{re.escape(MIMI)} beside|beside {re.escape(MIMI)}"):
        read(hub)


def test_sources_that_are_not_there_and_files_that_are_not_read_are_named(tmp_path):
    hub = only(tmp_path, LOQUACIOUS, COMMON_VOICE)
    (hub / "speechbrain/LoquaciousSet/large").mkdir()
    shutil.copy(HUB / LOQUACIOUS, hub / "speechbrain/LoquaciousSet/large/train-00000-of-00001.parquet")
    (hub / COMMON_VOICE).rename(hub / COMMON_VOICE.replace("train", "invalidated"))
    assert [unit.file for _, listing in readers(hub) for unit in listing.units] == [LOQUACIOUS]
    assert "speechbrain/LoquaciousSet (1 file, 1 other files are not read)" in in_words(hub)
    absent = [line.partition("not there: ")[2] for line in in_words(hub).splitlines()]
    assert "fixie-ai/common_voice_17_0 (1 other files are not read)" in absent[CONFIGS.index("sift_s") - 1]
    assert "edinburghcstr/ami" in absent[CONFIGS.index("transcription") - 1]


def test_a_folder_without_any_source_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"no parquet file of a source; not there: speechbrain/LoquaciousSet"
    ):
        build(tmp_path, tmp_path / "out", "transcription")


def test_a_remote_store_gives_the_same_utterances(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(HUB), "/omni/hub", recursive=True)
    try:
        assert read("memory://omni/hub") == read(HUB)
        folders = ("edinburghcstr/ami", "garam-icecream/MELD", "no/such")
        some = Corpus.open("memory://omni/hub", folders=folders)
        config = OmniConfig(name="omni", emotion_corpora=True)
        some_readers = [OmniReader(some, config, task_of(task)) for task in CONFIGS[1:]]
        listed = [(reader, reader.units(some.list())) for reader in some_readers]
        sources = {item.source for item in everything(listed) if isinstance(item, Dialogue)}
        assert {source.split("/")[1] for source in sources} == {"ami", "MELD"}
    finally:
        memory.rm("/omni", recursive=True)


def test_files_of_a_remote_store_are_never_held_whole(tmp_path, monkeypatch):
    """They weigh half a gigabyte, and are read as streams: nothing of them is fetched ahead."""
    memory = fsspec.filesystem("memory")
    memory.put(str(HUB), "/omni/hub", recursive=True)
    whole: list[str] = []
    monkeypatch.setattr(type(memory), "cat_file", lambda _, path, **__: whole.append(path) or b"")
    try:
        for config in ("transcription", "s2s_mimi"):
            assert build("memory://omni/hub", tmp_path / "out", config).skipped == {}
    finally:
        memory.rm("/omni", recursive=True)
    assert whole == []


def test_a_store_that_does_not_answer_is_no_fault_of_a_file(monkeypatch):
    class DroppedError(OSError):
        pass

    class Dropping:
        """A file whose store goes away."""

        closed = False

        def read(self, size: int = -1) -> bytes:
            raise DroppedError("connection reset")

        seek = tell = size = read

        def __enter__(self) -> "Dropping":
            return self

        def __exit__(self, *_: object) -> None: ...

    corpus = Corpus.open(str(HUB))
    monkeypatch.setattr(Corpus, "local_path", lambda *_: None)
    monkeypatch.setattr(Corpus, "open_file", lambda *_: Dropping())
    with pytest.raises(StoreError, match=r"did not answer \(connection reset"):
        list(parquet.read_batches(corpus, LOQUACIOUS, lambda schema: schema.names))


def test_without_a_data_dir_every_source_is_looked_for_on_the_hub(monkeypatch):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(Corpus, "open", lambda address, **kwargs: asked.update(address=address, **kwargs))
    OmniConfig(name="omni").open_corpus()
    assert asked == {"address": "hf://datasets", "folders": tuple(source.repository for source in SOURCES)}
    asked.clear()
    OmniConfig(name="omni", source="garam-icecream/MELD").open_corpus()
    assert asked == {"address": "hf://datasets/garam-icecream/MELD"}
