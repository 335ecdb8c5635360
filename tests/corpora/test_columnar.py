"""What columnar.py promises of a source: which files are its own, and what these know of one another."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from speechrows.corpora.columnar import Column
from speechrows.corpora.columnar import Source
from speechrows.corpora.columnar import SourceFile
from speechrows.corpora.columnar import Survey
from speechrows.corpora.columnar import columns_of
from speechrows.corpora.columnar import find
from speechrows.corpora.columnar import survey
from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.errors import UsageError

LETTERS = Source(
    repository="someone/letters",
    licence="CC0 1.0",
    citation="nobody",
    tasks=("transcription",),
    splits={"train": "train", "dev": "validation", "acted": "train"},
    id="key",
    speaker=Column(name="take", pattern=r"^(\w+)-"),
    traits={"speaking_rate": "rate"},
    votes=("happy", "sad"),
    apart=Column(name="take"),
    apart_in=frozenset({"train"}),
)


def files_of(*paths: str, corpus: str = "hub") -> tuple[list[SourceFile], int]:
    """The files of LETTERS among some, and the number of those that are not read."""
    files, num_unread = find(corpus, (LETTERS,), [Entry(path, 7, "") for path in paths])
    return files.get("letters", []), num_unread.get("letters", 0)


def write(folder: Path, **files: list[tuple[str, float]]) -> None:
    """Write files of LETTERS, each of the ids and rates of its rows."""
    (folder / "letters").mkdir()
    for stem, rows in files.items():
        cells = [
            {"audio": None, "text": "yes", "take": "A-1", "key": key, "rate": rate} for key, rate in rows
        ]
        pq.write_table(pa.Table.from_pylist(cells), folder / f"letters/{stem}.parquet")


def survey_of(folder: Path, **options: bool) -> Survey:
    corpus = Corpus.open(str(folder))
    return survey(corpus, find(corpus.name, (LETTERS,), corpus.list())[0]["letters"], **options)


def test_a_cell_is_a_value_by_its_column_and_pattern() -> None:
    row = {"take": "S07-a.wav", "number": 3, "nothing": "", "null": None}
    assert Column(name="take").value(row) == "S07-a.wav"
    assert Column(name="take", pattern=r"(\w+)-").value(row) == "S07"
    assert Column(name="take", pattern=r"(\d+)_").value(row) is None
    assert Column(name="number").value(row) == "3"
    assert [Column(name=name).value(row) for name in ("nothing", "null", "absent")] == [None] * 3


@pytest.mark.parametrize("above", ["someone/letters/", "letters/"])
def test_a_file_is_of_a_source_by_its_folder_and_of_a_split_by_its_name(above: str) -> None:
    files, num_unread = files_of(
        f"{above}data/train-00000-of-00002.parquet",
        f"{above}default/dev/0000.parquet",
        f"{above}acted.parquet",
        *(f"{above}data/test.parquet", f"{above}other/train.parquet", f"{above}README.md"),
        "someone/else/train.parquet",
    )
    assert [(file.publishers_split, file.split, file.stem) for file in files] == [
        *(("train", "train", "train-00000-of-00002"), ("dev", "validation", "0000")),
        ("acted", "train", "acted"),
    ]
    assert [file.apart for file in files] == [LETTERS.apart, None, None]
    assert [file.unit.splits for file in files] == [("train", "validation"), ("validation",), ("train",)]
    assert [(file.unit.opened, file.unit.files, file.unit.num_bytes) for file in files] == [
        ((file.path,), (), 7) for file in files
    ]
    assert num_unread == 2


def test_a_corpus_may_be_the_repository_itself() -> None:
    assert [file.stem for file in files_of("data/train.parquet", "dev.parquet", corpus="letters")[0]] == [
        *("train", "dev"),
    ]


def test_a_survey_tells_files_of_ids_that_came_earlier_in_their_split(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "dev": [("a", 1.0)],
            "train-00000-of-00002": [("a", 1.0), ("b", 2.0), ("a", 3.0)],
            "train-00001-of-00002": [("c", 4.0), ("b", 5.0)],
        },
    )
    files, missing = survey_of(tmp_path)
    assert [(file.stem, file.repeats) for file in files] == [
        ("dev", frozenset()),
        ("train-00000-of-00002", frozenset({2})),
        ("train-00001-of-00002", frozenset({1})),
    ]
    assert missing == []  # listeners' votes may be
    assert {file.pace_limits for file in files} == {(6.0, 9.0)}
    files, _ = survey_of(tmp_path, by_percentile=True)
    assert {file.pace_limits for file in files} == {(1.25, 3.75)}
    assert {file.volume_limits for file in files} == {(-16.4, -10.0)}


def test_a_file_that_can_not_be_read_is_surveyed_as_one_without_rows(tmp_path: Path) -> None:
    write(tmp_path, train=[("a", 1.0)], acted=[("a", 1.0)])
    (tmp_path / "letters/acted.parquet").write_bytes(b"no parquet")
    files, _ = survey_of(tmp_path)
    assert [(file.stem, file.repeats) for file in files] == [("acted", frozenset()), ("train", frozenset())]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, train=[("a", 1.0)])
    (tmp_path / "letters/data").mkdir()
    (tmp_path / "letters/data/train.parquet").write_bytes((tmp_path / "letters/train.parquet").read_bytes())
    with pytest.raises(UsageError, match="expected each file of someone/letters once"):
        survey_of(tmp_path)


def test_columns_are_those_of_the_source_that_a_file_has_once() -> None:
    fields = [("audio", pa.binary()), ("text", pa.string()), ("key", pa.int64()), ("take", pa.string())]
    schema = pa.schema([*fields, ("happy", pa.float32()), ("more", pa.string())])
    assert columns_of(LETTERS, "a.parquet", schema) == ["audio", "text", "key", "take", "happy"]
    with pytest.raises(UsageError, match=r"a\.parquet: has the columns .*; expected text once, as someone/"):
        columns_of(LETTERS, "a.parquet", pa.schema([*fields, ("text", pa.string())]))
