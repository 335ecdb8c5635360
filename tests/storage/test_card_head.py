"""A card's head, read and written by libyaml, is what huggingface_hub reads and writes."""

import pytest
from huggingface_hub import DatasetCard
from huggingface_hub.utils import yaml_dump

from speechrows.storage.card_head import parse_head
from speechrows.storage.card_head import write_head

HEAD = {
    "pretty_name": "Gespräche: “yes” #1 \N{SNOWMAN} " + "in words that are longer than a line may be, " * 3,
    "license": "cc-by-4.0",
    "tags": ["null", "1", "1.0", "yes", "", " ", "a: b"],
    "configs": [{"config_name": "ttt", "data_files": [{"split": "train", "path": ["a/*.parquet"]}]}],
    "size": {"rows": 10**12, "hours": 0.1, "none": None},
}


def test_a_head_is_written_as_huggingface_hub_writes_it_and_read_back() -> None:
    text = write_head(HEAD)
    assert text == yaml_dump(HEAD, sort_keys=False).strip()
    card = f"---\n{text}\n---\n# Title\n"
    assert parse_head(card) == HEAD
    assert DatasetCard(card).data.pretty_name == HEAD["pretty_name"]


def test_what_stands_twice_is_written_once_and_read_twice() -> None:
    features = [{"name": "row_id", "dtype": "string"}]
    head = {"ttt": features, "response": features}
    text = write_head(head)
    assert text.count("row_id") == 1
    assert text == yaml_dump(head, sort_keys=False).strip()
    assert parse_head(f"---\n{text}\n---\n") == head


@pytest.mark.parametrize("head", ["a: [", "- a", "a: !!python/object:os.system {}"])
def test_a_head_that_is_no_object_is_refused(head: str) -> None:
    with pytest.raises(ValueError, match="YAML"):
        parse_head(f"---\n{head}\n---\n")


def test_a_card_without_a_head_has_an_empty_one() -> None:
    assert parse_head("# Title\n") == {}
