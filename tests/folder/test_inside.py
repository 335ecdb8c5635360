"""A folder of a stranger: whatever it names, no file outside it is read, shown or published."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from toys.building import build_rows
from toys.building import made_up
from toys.building import replace_shard
from toys.samples import XTTS

from speechrows.errors import SpeechRowsError
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.layout import is_built
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.show import show
from speechrows.hub.publish.contents import check_clips
from speechrows.hub.publish.contents import published_files
from speechrows.hub.viewer.check import check_viewer
from speechrows.sidecar.join import GeneratedColumns
from speechrows.text.tokenizers import open_tokenizer
from speechrows.validation.validate import validate

SHARD, INDEX, RULES = (
    "data/ttt/train/band_1/ttt-train-1-00000.parquet",
    "index/ttt/train.parquet",
    "tokenizer/tokenizer.json",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("inside") / "rows"
    build_rows(XTTS, out, "ttt")
    return out


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy to spoil; beside it, outside of it, a good shard, index and tokenizer lie in `secret`."""
    shutil.copytree(built, tmp_path / "secret")
    return Path(shutil.copytree(built, tmp_path / "rows"))


def name_shard(folder: Path, name: str) -> None:
    """Let the index say that its one shard is called so."""
    table = pq.read_table(folder / INDEX)
    facts = json.loads(table.schema.metadata[b"speechrows"])
    facts["shards"] = {name: facts["shards"][SHARD]}
    names = pa.array([name] * len(table)).dictionary_encode()
    table = table.set_column(table.schema.get_field_index("shard"), "shard", names)
    pq.write_table(table.replace_schema_metadata({"speechrows": json.dumps(facts)}), folder / INDEX)


def list_files(folder: Path, pattern: str) -> None:
    """Let the card list such files, for every config."""
    _, head, text = (folder / "README.md").read_text("utf-8").split("---", 2)
    card = yaml.safe_load(head)
    for config in card["configs"]:
        config["data_files"][0]["path"] = [pattern]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n{text}", "utf-8")


DOORS: dict[str, Callable[[str], Any]] = {
    "publish": lambda address: published_files(Path(address)),
    "show": show,
    "index": lambda address: Index.open(address, "ttt").check_shard(0),
    "validate": lambda address: validate(address).ok,
}


def assert_refused(folder: Path, doors: tuple[str, ...] = tuple(DOORS)) -> None:
    for door in doors:
        try:
            outcome = DOORS[door](str(folder))
        except SpeechRowsError:
            continue
        assert (door, outcome) == ("validate", False)


@pytest.mark.parametrize(
    "name",
    [
        "{secret}/" + SHARD,
        "../secret/" + SHARD,
        "data/ttt/train/band_1/../../../../../secret/" + SHARD,
        "data/ttt/../../../secret/data/ttt/train/band_1/ttt-train-1-00000.parquet",
        "file://{secret}/" + SHARD,
        "simplecache::file://{secret}/" + SHARD,
        "data/ttt/train/band_1/ttt-train-1-00000.parquet::file://{secret}/" + SHARD,
        "data/ttt/train/band_1/\x1b[2J.parquet",
        ".build/ttt/00000-0.parquet",
        "notes.txt",
    ],
)
def test_an_index_that_names_another_file_is_refused_everywhere(folder: Path, name: str) -> None:
    (folder / "notes.txt").write_bytes((folder / SHARD).read_bytes())
    name_shard(folder, name.format(secret=folder.parent / "secret"))
    assert_refused(folder)
    with pytest.raises(UsageError, match="where no build writes"):
        RowsFolder.open(str(folder)).open_file(name)


@pytest.mark.parametrize(
    "pattern",
    [
        "{secret}/" + SHARD,
        "../secret/data/ttt/train/band_1/*",
        "https://evil.example/*.parquet",
        "**",
        "*",
        "data/**",
    ],
)
def test_a_card_that_lists_other_files_is_refused_everywhere(folder: Path, pattern: str) -> None:
    list_files(folder, pattern.format(secret=folder.parent / "secret"))
    assert_refused(folder, ("publish", "index", "validate"))


def test_files_that_a_person_lists_beside_a_builds_take_nothing_of_its_rows_away(folder: Path) -> None:
    _, head, text = (folder / "README.md").read_text("utf-8").split("---", 2)
    card = yaml.safe_load(head)
    card["configs"].append({"config_name": "mine", "data_files": [{"split": "train", "path": "data/my.csv"}]})
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n{text}", "utf-8")
    assert len(Index.open(str(folder), "ttt")) == 17
    with pytest.raises(UsageError, match=r"its README\.md lists 'data/my\.csv'; expected data/<task>"):
        Index.open(str(folder), "mine")


@pytest.mark.parametrize("path", [SHARD, "data/ttt", INDEX, RULES, "tokenizer", "skipped.jsonl", "README.md"])
def test_a_symlink_that_leads_out_of_the_folder_is_not_followed(folder: Path, path: str) -> None:
    (shutil.rmtree if (folder / path).is_dir() else Path.unlink)(folder / path)
    (folder / path).symlink_to(folder.parent / "secret" / path)
    assert_refused(folder, ("publish",))
    some = next(file for file in (SHARD, INDEX, RULES, "skipped.jsonl", "README.md") if file.startswith(path))
    with pytest.raises(UsageError, match=f"{some} is, or lies behind, a symlink that leads out"):
        RowsFolder.open(str(folder)).open_file(some)


def test_symlinks_inside_a_folder_and_those_of_the_hub_s_cache_are_followed(
    built: Path, tmp_path: Path
) -> None:
    snapshot, blobs = tmp_path / "datasets--org--rows/snapshots/0123", tmp_path / "datasets--org--rows/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(path for path in built.rglob("*") if path.is_file()):
        if ".build" not in path.parts:
            shutil.copy(path, blobs / str(number))
            link = snapshot / path.relative_to(built)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blobs / str(number))
    (tmp_path / "link").symlink_to(snapshot)
    assert validate(str(tmp_path / "link")).ok
    assert published_files(tmp_path / "link") == published_files(built)


def test_what_no_build_writes_is_not_published_and_a_tokenizer_runs_no_code(folder: Path) -> None:
    expected = published_files(folder)
    mark = folder.parent / "ran"
    (folder / "tokenizer/evil.py").write_text(
        f"open({str(mark)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast\n"
        "class Evil(PreTrainedTokenizerFast): pass\n"
    )
    for stray in (
        "tokenizer/.netrc",
        "tokenizer/id_rsa",
        "assets/ttt/id_rsa",
        "assets/ttt/a b.png",
        "data/ttt/x",
    ):
        (folder / stray).write_text("secret")
    assert published_files(folder) == expected
    config = json.loads((folder / "tokenizer/tokenizer_config.json").read_text("utf-8"))
    config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": [None, "evil.Evil"]}}
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    for address in (str(folder / "tokenizer"), RowsFolder.open(str(folder)).tokenizer_folder()):
        with pytest.raises(UsageError, match="code of its own, which is never run"):
            open_tokenizer(address)
    assert not mark.exists()


@pytest.mark.parametrize("column", ["audio", "target_audio"])
def test_a_clip_that_is_a_name_without_bytes_is_reported_and_not_published(folder: Path, column: str) -> None:
    rows = pq.read_table(folder / SHARD).to_pylist()
    rows[2][column] = {"bytes": None, "path": str(folder.parent / "secret" / SHARD)}
    replace_shard(folder, SHARD, rows, INDEX)
    with pytest.raises(UsageError, match=f"a {column} that names a file and has no bytes"):
        check_clips(folder, SHARD)
    report = validate(str(folder))
    assert (rows[2]["row_id"], f"{column} is null") in report.failures["required fields"]
    assert "0 bytes" in show(str(folder), rows[2]["row_id"])


def test_viewer_and_generated_columns_follow_no_symlink_out(folder: Path, tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "heard", "transcription")
    units = Path(made_up(tmp_path / "heard", "units", tmp_path / "units"))
    part = next(units.glob("*.parquet"))
    part.rename(tmp_path / "elsewhere.parquet")
    part.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(UsageError, match="a symlink that leads out"):
        GeneratedColumns.open([str(units)])
    (folder / SHARD).unlink()
    (folder / SHARD).symlink_to(tmp_path / "secret" / SHARD)
    with pytest.raises(UsageError, match="a symlink that leads out"):
        check_viewer(str(folder))


@pytest.mark.parametrize(
    "path", ["data/ttt/a-b/00000.parquet", "data/no/train/00000.parquet", "README.md", "x"]
)
def test_only_names_that_builds_give_are_theirs(path: str) -> None:
    assert not is_built(path)
