"""Tables of a folder: the split that a file is of, told by its name and its folders."""

import pytest

from speechrows.corpora.tables.files import split_of_path


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("dev.tsv", "validation"),
        ("test/fr/validated.tsv", "test"),
        ("train/dev.csv", "validation"),
        ("test_of_train.csv", "test"),
        ("trainers.csv", None),
    ],
)
def test_a_file_is_of_the_first_split_its_name_tells_else_its_nearest_folders(
    path: str, split: str | None
) -> None:
    assert split_of_path(path) == split
