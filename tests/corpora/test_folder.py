"""A corpus folder: what it lists, what it refuses to lead to, the same on disk and remote."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.core import url_to_fs
from toys.building import build_rows
from toys.building import open_reader
from toys.building import published_files
from toys.samples import XTTS

from deepdialogue_ttt import DeepDialogueTTT
from speechrows.corpora.entries import listing_digest
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.types import Reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """corpus/ with two files, beside it a secret."""
    (tmp_path / "secret.wav").write_bytes(b"secret")
    root = tmp_path / "corpus"
    (root / "b").mkdir(parents=True)
    (root / "b" / "two.wav").write_bytes(b"22")
    (root / "a.wav").write_bytes(b"1")
    return root


@pytest.fixture
def remote() -> Iterator[str]:
    """The published sample in fsspec's memory."""
    fs = fsspec.filesystem("memory")
    fs.put(str(XTTS), "/deepdialogue-xtts", recursive=True)
    yield "memory://deepdialogue-xtts"
    fs.rm("/deepdialogue-xtts", recursive=True)


def test_the_listing_is_sorted_and_does_not_depend_on_the_order_of_the_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("B.wav", "b.wav", "b-1.wav", "é.wav", "b/10.wav", "b/9.wav"):
        (folder / name).write_bytes(b"x")
    listed = Corpus.open(str(folder)).list()
    paths = [entry.path for entry in listed]
    assert paths == sorted(paths)
    assert len(paths) == 8
    assert {entry.path: entry.num_bytes for entry in listed}["b/two.wav"] == 2
    scandir = os.scandir

    class Backwards:
        def __init__(self, path: str) -> None:
            self.entries = list(scandir(path))[::-1]

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Backwards)
    assert Corpus.open(str(folder)).list() == listed


def test_symlinks_are_followed_to_files_of_the_corpus_alone(folder: Path) -> None:
    (folder / "folder").symlink_to("b")
    (folder / "inside.wav").symlink_to("b/two.wav")
    (folder / "leaving.wav").symlink_to("../secret.wav")
    (folder / "nowhere.wav").symlink_to("gone.wav")
    (folder / "loop.wav").symlink_to("loop.wav")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe.wav")
    entries = {entry.path: entry for entry in Corpus.open(str(folder)).list()}
    assert sorted(entries) == [
        "a.wav", "b/two.wav", "folder", "inside.wav", "leaving.wav", "loop.wav", "nowhere.wav", "up",
    ]  # fmt: skip
    refused = [path for path, entry in entries.items() if entry.refused]
    assert refused == ["folder", "leaving.wav", "loop.wav", "nowhere.wav", "up"]
    assert entries["inside.wav"].num_bytes == 2
    assert all(entries[path].num_bytes == 0 for path in refused)


LEAVING = [
    "../secret.wav",
    "b/../../secret.wav",
    "..",
    "/etc/passwd",
    "..\\secret.wav",
    "b\\..\\..\\secret.wav",
    "\\etc\\passwd",
    "C:\\clips\\a.wav",
    "https://example.org/a.wav",
    "file:///etc/passwd",
    "hf://datasets/a/b.wav",
    "a.wav\0.txt",
    "\ud800.wav",
    "\udcff.wav",
]


@pytest.mark.parametrize("name", LEAVING)
def test_names_that_lead_out_of_the_corpus_are_refused(folder: Path, name: str) -> None:
    fs = fsspec.filesystem("memory")
    corpora = [
        Corpus.open(str(folder)),
        Corpus(root="/corpus", _fs=fs),
        Corpus(root="/corpus", located={}),
    ]
    for corpus in corpora:
        with pytest.raises(BadClipError) as caught:
            corpus.resolve("", name)
        assert caught.value.reason is Reason.REFUSED_PATH
        assert caught.value.detail.startswith(f"found {name!r}")
        assert "expected" in caught.value.detail


def test_symlinks_that_leave_are_refused_on_the_way_too(folder: Path) -> None:
    (folder / "leaving.wav").symlink_to("../secret.wav")
    (folder / "up").symlink_to("..")
    (folder / "inside.wav").symlink_to("b/two.wav")
    corpus = Corpus.open(str(folder))
    for name in ("leaving.wav", "up/secret.wav"):
        with pytest.raises(
            BadClipError, match="a symlink that leads out of the corpus; copy the file"
        ) as caught:
            corpus.resolve("", name)
        assert caught.value.reason is Reason.REFUSED_PATH
    assert corpus.resolve("", "inside.wav") == "inside.wav"


def test_a_neighbour_whose_name_begins_like_the_corpus_is_outside(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "corpus-2")
    (folder / "near.wav").symlink_to("../corpus-2/a.wav")
    with pytest.raises(BadClipError):
        Corpus.open(str(folder)).resolve("", "near.wav")


def test_names_inside_the_corpus_are_resolved_relative_to_the_folder(folder: Path) -> None:
    corpus = Corpus.open(str(folder))
    assert corpus.resolve("b", "two.wav") == "b/two.wav"
    assert corpus.resolve("b", "../a.wav") == "a.wav"
    assert corpus.resolve("b", ".\\two.wav") == "b/two.wav"
    assert corpus.resolve("b/c", "./..//two.wav") == "b/two.wav"
    assert corpus.resolve("", "a..wav") == "a..wav"


def test_the_digest_changes_with_any_file_and_with_nothing_else(folder: Path) -> None:
    def digest() -> str:
        return listing_digest(Corpus.open(str(folder)).list())

    seen = [digest()]
    assert digest() == seen[0]
    (folder / "a.wav").write_bytes(b"longer")
    seen.append(digest())
    os.utime(folder / "b/two.wav", ns=(1, 1))  # as many bytes, but others
    seen.append(digest())
    (folder / "a.wav").rename(folder / "c.wav")
    seen.append(digest())
    (folder / "c.wav").unlink()
    seen.append(digest())
    assert len(set(seen)) == 5


def test_a_corpus_behind_an_address_lists_and_reads_as_on_disk(remote: str) -> None:
    here, there = Corpus.open(str(XTTS)), Corpus.open(remote)
    assert [e[:2] for e in there.list()] == [e[:2] for e in here.list()]
    assert all(entry.stamp for entry in there.list())
    assert all(there.read(entry.path) == here.read(entry.path) for entry in here.list())
    assert (there.name, there.label) == (here.name, here.label)
    assert there.local_path("a.wav") is None
    with pytest.raises(FileNotFoundError):
        there.read("nowhere.wav")
    listings = [open_reader(DeepDialogueTTT, address)[1] for address in (remote, XTTS)]
    assert listings[0] == listings[1]


def test_rows_of_a_corpus_behind_an_address_are_those_of_the_disk(remote: str, tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "here")
    build_rows(remote, tmp_path / "there")
    assert published_files(tmp_path / "there") == published_files(tmp_path / "here")


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_file_is_as_it_was_listed_until_it_changes(tmp_path: Path, is_remote: bool) -> None:
    address = "memory://changing" if is_remote else str(tmp_path)
    store, root = url_to_fs(address)
    store.makedirs(f"{root}/talk", exist_ok=True)
    for name in ("clips.tar", "talk/0.wav", "talk/1.wav"):
        store.pipe(f"{root}/{name}", b"one")
    corpus = Corpus.open(address)
    entries = corpus.list()
    corpus.read("clips.tar")
    assert not [*corpus.changed(entries)]
    store.pipe(f"{root}/talk/1.wav", b"three")
    ((entry, found),) = corpus.changed(entries)
    assert (entry.path, found.startswith("5 bytes of ")) == ("talk/1.wav", True)
    store.rm(f"{root}/clips.tar")
    entry, found = next(corpus.changed(entries))
    assert (entry.path, found) == ("clips.tar", "none")


def test_a_file_address_is_a_folder_on_disk_whose_symlinks_are_looked_at(folder: Path) -> None:
    (folder / "leaving.wav").symlink_to("../secret.wav")
    corpus = Corpus.open(f"file://{folder}")
    assert corpus == Corpus.open(str(folder))
    with pytest.raises(BadClipError):
        corpus.resolve("", "leaving.wav")


@pytest.mark.parametrize("address", ["nowhere", "memory://nowhere"])
def test_a_folder_that_is_not_there_is_named(address: str) -> None:
    with pytest.raises(UsageError, match=f"--data-dir {address}: no such folder"):
        Corpus.open(address)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(UsageError, match="is a file; expected the corpus' own folder"):
        Corpus.open(str(folder / "a.wav"))


@pytest.mark.parametrize(
    ("root", "label", "name"),
    [
        ("/x/DeepDialogue-xtts", "DeepDialogue-xtts", "DeepDialogue-xtts"),
        ("/x/DeepDialogue-xtts/data", "DeepDialogue-xtts/data", "DeepDialogue-xtts"),
        ("datasets/org/corpus@main", "corpus", "corpus"),
        ("datasets/org/corpus@main/data", "corpus/data", "corpus"),
        ("/data", "data", "data"),
        ("data", "data", "data"),
    ],
)
def test_a_corpus_is_called_by_its_folder_and_never_data_alone(root: str, label: str, name: str) -> None:
    assert (Corpus(root=root).label, Corpus(root=root).name) == (label, name)
