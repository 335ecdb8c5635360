"""A built folder of which a file was damaged: who reads it says which and what to do; others read on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys.building import build_rows
from toys.samples import XTTS

from speechrows.errors import SpeechRowsError
from speechrows.folder.index import Index
from speechrows.folder.show import show
from speechrows.folder.stats import stats
from speechrows.loader.fill import fills
from speechrows.validation.validate import validate

INDEX, CARD, TOKENIZER = "index/ttt/train.parquet", "README.md", "tokenizer/tokenizer.json"
SHARD, SKIPPED = "data/ttt/train/band_1/ttt-train-1-00000.parquet", "skipped.jsonl"
Change = Callable[[Path], object]
READERS: dict[str, Callable[[str], object]] = {
    "stats": stats,
    "show": show,
    "index": lambda address: Index.open(address, "ttt"),
    "fills": lambda address: fills(address, context=8192, mode="pack"),
}
# Which readers look at a file.
WHO = {
    INDEX: ("stats", "show", "index", "fills"),
    CARD: ("index", "fills"),
    SHARD: ("show",),
    TOKENIZER: ("show",),
    SKIPPED: (),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("damage") / "rows"
    build_rows(XTTS, out)
    return out


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "rows"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 8])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_bytes(path: Path) -> None:
    path.write_bytes(b"\xff\xfe" * (path.stat().st_size // 2))


def says(old: str, new: str, count: int = 1) -> Change:
    def change(path: Path) -> None:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, count))

    return change


def columns(change: Callable[[pa.Table], pa.Table]) -> Change:
    def rewrite(path: Path) -> None:
        table = pq.read_table(path)
        pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)

    return rewrite


def nulls(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("num_tokens")
    return table.set_column(at, "num_tokens", pa.nulls(len(table), pa.int32()))


def facts(**values: Any) -> Change:
    """Change what an index says of the whole."""

    def rewrite(path: Path) -> None:
        table = pq.read_table(path)
        told = json.loads((table.schema.metadata or {})[b"speechrows"]) | values
        pq.write_table(table.replace_schema_metadata({"speechrows": json.dumps(told)}), path)

    return rewrite


SPOILED: dict[str, tuple[str, Change]] = {
    **{f"{change.__name__}: {path}": (path, change) for path in WHO for change in (a_folder, other_bytes)},
    **{f"cut: {path}": (path, cut) for path in (INDEX, CARD, SHARD, TOKENIZER)},
    "another file: index": (INDEX, lambda path: shutil.copy(path.parents[2] / SHARD, path)),
    "a column lost": (INDEX, columns(lambda table: table.drop_columns(["row_group"]))),
    "a column of words": (INDEX, columns(lambda table: table.set_column(2, "turn_number", table["row_id"]))),
    "a column of nulls": (INDEX, columns(nulls)),
    "a line more": (INDEX, columns(lambda table: pa.concat_tables([table, table.slice(0, 1)]))),
    "no time": (INDEX, facts(audio_tokens_per_second="1/0")),
    "time without end": (INDEX, facts(audio_tokens_per_second="1e300")),
    "a prompt of no words": (INDEX, facts(form={"date": "2024-07-26", "system": {"a": 1}})),
    "less than nothing": (INDEX, facts(audio_tokens_per_second="-1")),
    "a ledger of words": (INDEX, facts(ledger={"items": "many"})),
    "a shard elsewhere": (INDEX, facts(shards={"../../x": {"rows": 17, "size": 1, "footer_sha256": ""}})),
    "shards of no end": (INDEX, facts(shards={SHARD: {"rows": 10**15, "size": 1, "footer_sha256": ""}})),
    "YAML that breaks": (CARD, says("---\n", "---\nx: [\n")),
    "YAML of code": (CARD, says("---\n", "---\nx: !!python/object/apply:os.getcwd []\n")),
    "configs of words": (CARD, says("configs:\n", "configs: many\nother:\n")),
    "a config without a name": (CARD, says("config_name:", "name:")),
    "patterns that are none": (CARD, says("data/ttt/train/band_1/*.parquet", "17")),
    "another task": (CARD, says("data/ttt/train/band_1/*.parquet", "data/poems/train/*.parquet")),
    "another build": (CARD, says("num_examples: 17", "num_examples: 18", -1)),
}


@pytest.mark.parametrize(("name", "spoil"), SPOILED.values(), ids=SPOILED)
def test_a_damaged_file_is_named_by_who_reads_it_and_no_other_is_disturbed(
    name: str, spoil: Change, copy: Path
) -> None:
    spoil(copy / name)
    for who, read in READERS.items():
        if who not in WHO[name]:
            read(str(copy))
            continue
        if who != "index" and spoil is SPOILED["a column of nulls"][1]:
            continue  # it asks for other columns
        with pytest.raises(SpeechRowsError) as caught:
            read(str(copy))
        assert name.split("/", maxsplit=1)[0] in str(caught.value)
        assert any(word in str(caught.value) for word in ("expected", "promise", "tells")), str(caught.value)


@pytest.mark.parametrize(
    "lines", [b"null\n", b"[]\n", b'{"task": ["a"], "clip_id": 1}\n', b"[" * 100_000, b"\xff\n"]
)
def test_validate_goes_on_whatever_is_damaged(lines: bytes, copy: Path) -> None:
    (copy / SKIPPED).write_bytes(lines)
    says("config_name:", "name:")(copy / CARD)
    other_bytes(copy / TOKENIZER)
    report = validate(str(copy))
    assert {*report.failures} == {"card", "ledger", "tokenizer"}
    (copy / INDEX).write_bytes(lines)
    assert {*validate(str(copy)).failures} >= {"card", "index", "tokenizer"}
