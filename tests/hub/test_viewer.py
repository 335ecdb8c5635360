"""What is built, the Hub's viewer shows; a folder that breaks any of its rules is told which, and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio
from datasets import Features
from datasets import Value
from toys.building import build_rows
from toys.corpus import write_corpus
from toys.mini_hub import MiniHub
from toys.samples import XTTS

from speechrows.cli import main
from speechrows.errors import UsageError
from speechrows.folder.stats import stats
from speechrows.hub.publish.publisher import Publisher
from speechrows.hub.publish.publisher import Target
from speechrows.hub.viewer import response
from speechrows.hub.viewer import shards
from speechrows.hub.viewer.check import check_viewer
from speechrows.hub.viewer.pages import scanned

SHARD = "data/ttt/train/band_1/ttt-train-1-00000.parquet"
LISTED = "    - data/ttt/train"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_rows(XTTS, tmp_path / "rows")
    return tmp_path / "rows"


@pytest.mark.parametrize(("rate_hz", "dialogues"), [(16_000, 10), (44_100, 4)])
def test_what_is_built_of_long_turns_is_shown_whatever_their_rate(
    rate_hz: int, dialogues: int, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=dialogues, turns=4, seconds=30, rate_hz=rate_hz)
    build_rows(corpus, tmp_path / "rows", "ttt", validation_fraction=0.3)
    build_rows(corpus, tmp_path / "rows", "response", validation_fraction=0.3)
    report = check_viewer(str(tmp_path / "rows"))
    assert report.ok, str(report)
    assert report.notes == []
    assert (report.num_configs, report.num_files) == (6, 4)
    assert report.num_bytes > 30_000_000
    assert report.num_bytes_read < 2_000_000


# A spoilt folder for every rule.


def rewrite(folder: Path, change: Callable[[pa.Table], pa.Table], **options: Any) -> None:
    table = change(pq.read_table(folder / SHARD, partitioning=None))
    pq.write_table(table, folder / SHARD, **{"write_page_index": True, **options})


def card(folder: Path, change: Callable[[str], str]) -> None:
    text = (folder / "README.md").read_text("utf-8")
    assert change(text) != text
    (folder / "README.md").write_text(change(text), "utf-8")


def with_path(table: pa.Table, name: str | None) -> pa.Table:
    audio = table["audio"].combine_chunks()
    paths = pa.array([name] * len(table), pa.string())
    clips = pa.StructArray.from_arrays([audio.field("bytes"), paths], ["bytes", "path"])
    return table.set_column(table.schema.get_field_index("audio"), table.schema.field("audio"), clips)


def another_file(folder: Path) -> None:
    table = pq.read_table(folder / SHARD, partitioning=None)
    table = table.append_column("more", pa.array([1] * len(table)))
    pq.write_table(table, (folder / SHARD).with_name("00001.parquet"), write_page_index=True)


def replaced(folder: Path, old: str, new: str) -> None:
    card(folder, lambda text: text.replace(old, new, 1))


def many_configs(text: str) -> str:
    data = "\n".join(f"- config_name: c{i}\n  data_files: {SHARD}" for i in range(4001))
    return f"---\nconfigs:\n{data}\n---\n" + text.partition("\n---\n")[2]


def many_splits(text: str) -> str:
    data = "\n".join(f"  - split: s{i}\n    path: {SHARD}" for i in range(31))
    return f"---\nconfigs:\n- config_name: a\n  data_files:\n{data}\n---\n" + text.partition("\n---\n")[2]


def wide(table: pa.Table, columns: int, cell: str, name: str = "extra") -> pa.Table:
    kept = table.select(["audio", "row_id"]).replace_schema_metadata(None)
    for i in range(columns):
        kept = kept.append_column(f"{name}_{i}", pa.array([cell] * len(table)))
    return kept


def only_files(text: str) -> str:
    """A card without dataset_info: what the files say holds."""
    return f"---\nconfigs:\n- config_name: a\n  data_files: {SHARD}\n---\n" + text.partition("\n---\n")[2]


def declare(table: pa.Table, more: dict[str, Any]) -> pa.Table:
    """A table whose files say what its columns are."""
    kinds = {name: Value("string") for name in table.column_names if name != "audio"}
    features = Features({"audio": Audio(), **kinds, **more})
    return table.cast(features.arrow_schema)


def without_audio(table: pa.Table) -> pa.Table:
    return table.drop(["audio", "target_audio"]).replace_schema_metadata(None)


def nested(table: pa.Table) -> pa.Table:
    kept = declare(table.select(["audio", "row_id"]).replace_schema_metadata(None), {})
    turns = pa.array([[row] for row in kept["audio"].to_pylist()], pa.list_(kept.schema.field("audio").type))
    return kept.append_column("turns", turns).cast(
        Features({"audio": Audio(), "row_id": Value("string"), "turns": [Audio()]}).arrow_schema
    )


SPOILT: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "a script": ("script", "deepdialogue.py", lambda f: (f / "deepdialogue.py").write_text("")),
    "no card": ("card", "found none", lambda f: (f / "README.md").unlink()),
    "broken yaml": ("card", "can not be read", lambda f: replaced(f, "configs:", "configs: [")),
    "a dead pattern": ("configs", "matches x/*", lambda f: replaced(f, LISTED, f"    - x/*\n{LISTED}")),
    "an overlap": ("configs", "more than once", lambda f: replaced(f, LISTED, f"    - data/**\n{LISTED}")),
    "configs without files": ("configs", "no data_files", lambda f: replaced(f, "data_files", "x")),
    "4001 configs": ("configs", "4,001 configs", lambda f: card(f, many_configs)),
    "31 splits": ("configs, splits", "31 splits", lambda f: card(f, many_splits)),
    "no page index": ("page index", SHARD, lambda f: rewrite(f, lambda t: t, write_page_index=False)),
    "another schema": ("schema", "(more)", another_file),
    "an extension": ("path", "'x.ogg'", lambda f: rewrite(f, lambda t: with_path(t, "x.ogg"))),
    "no path": ("path", "None", lambda f: rewrite(f, lambda t: with_path(t, None))),
    "no parquet": ("parquet", "can not be read", lambda f: (f / SHARD).write_bytes(b"PAR1 and no more")),
    "no audio": (
        "audio",
        "no column is Audio",
        lambda f: (card(f, only_files), rewrite(f, without_audio)),
    ),
    "nested audio": ("audio", "column turns", lambda f: (card(f, only_files), rewrite(f, nested))),
    "1003 columns": (
        "columns, response",
        "1,003 columns",
        lambda f: (card(f, only_files), rewrite(f, lambda t: declare(wide(t, 1001, ""), {}))),
    ),
    "a long name": (
        "columns",
        "502 characters",
        lambda f: (card(f, only_files), rewrite(f, lambda t: declare(wide(t, 1, "", "x" * 500), {}))),
    ),
    "a large answer": (
        "response",
        "even with cells cut",
        lambda f: (card(f, only_files), rewrite(f, lambda t: declare(wide(t, 400, "y" * 200), {}))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_folder_is_told_by_rule(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule, words, spoil = SPOILT[name]
    spoil(folder)
    assert main(["check-viewer", str(folder)]) == 1
    printed = capsys.readouterr().out
    report = check_viewer(str(folder))
    assert ", ".join(sorted({finding.rule for finding in report.findings})) == rule, printed
    assert words in printed
    assert str(report) + "\n" == printed
    assert all(finding.change for finding in report.findings)


def test_a_good_folder_passes_and_a_folder_that_is_not_there_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-viewer", str(folder)]) == 0
    assert "the viewer can show it (5 configs, 1 parquet files; read " in capsys.readouterr().out
    assert main(["check-viewer", str(folder / "nothing")]) == 2


def test_long_cells_are_noted_and_fail_nothing(folder: Path) -> None:
    def longer(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("text")
        return table.set_column(at, table.schema.field("text"), pa.array(["z" * 30_000] * len(table)))

    rewrite(folder, longer)
    report = check_viewer(str(folder))
    assert report.ok
    assert len(report.notes) == 1
    assert "long cells are shown cut" in str(report)


def test_the_answer_is_measured_as_the_viewer_measures_it() -> None:
    features = Features({"audio": Audio(), "text": Value("string"), "n": Value("int32")})
    rows = [{"audio": {"path": "x.wav"}, "text": "é" * 1000, "n": 7}] * 12
    whole, cut = response.first_rows_bytes(features, rows)
    none, _ = response.first_rows_bytes(features, [])
    assert 10 * 2000 < whole - none < 10 * 2400  # ten rows, two bytes a letter
    assert 10 * 100 < cut - none < 10 * 500


# Bytes that a page of rows costs.


def blobs(path: Path, count: int, size: int, **options: Any) -> pq.FileMetaData:
    values = [np.random.default_rng(i).bytes(size) for i in range(count)]
    table = pa.table({"blob": pa.array(values, pa.binary()), "n": pa.array(range(count))})
    pq.write_table(table, path, row_group_size=count, use_dictionary=False, compression="none",
                   **{"write_page_index": True, **options})  # fmt: skip
    return pq.read_metadata(path)


def test_a_page_of_rows_costs_the_pages_of_the_file_that_it_touches(tmp_path: Path) -> None:
    path = tmp_path / "blobs.parquet"
    blobs(path, 100, 1000, write_batch_size=1, data_page_size=1)
    with path.open("rb") as file:
        each = scanned(file, 0, 100, rows=1)
        assert 1000 < each < 1200
        assert scanned(file, 0, 100, rows=10) == pytest.approx(10 * each, rel=0.01)
        everything = scanned(file, 0, 100, rows=100)
    metadata = pq.read_metadata(path).row_group(0)
    assert everything == sum(metadata.column(i).total_compressed_size for i in range(2))
    blobs(path, 100, 1000, max_rows_per_page=100)
    with path.open("rb") as file:
        assert scanned(file, 0, 100, rows=1) == pytest.approx(everything, rel=0.1)


@pytest.mark.parametrize(("options", "is_shown"), [({"write_batch_size": 4, "data_page_size": 1 << 16}, True),
                                                  ({"data_page_size": 1 << 30}, False)])  # fmt: skip
def test_a_large_row_group_is_shown_where_its_pages_are_small(
    options: dict[str, Any], is_shown: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_SCAN", 1_000_000)
    card(folder, only_files)
    size = 0

    def heavy(table: pa.Table) -> pa.Table:
        clips = [{"bytes": np.random.default_rng(i).bytes(4000), "path": "x.wav"} for i in range(1000)]
        table = pa.table({"audio": pa.array(clips), "row_id": [str(i) for i in range(1000)]})
        return declare(table, {})

    rewrite(folder, heavy, compression="none", use_dictionary=False, **options)
    size = pq.read_metadata(folder / SHARD).row_group(0).total_byte_size
    assert size > 4_000_000
    report = check_viewer(str(folder))
    assert report.ok == is_shown
    assert {finding.rule for finding in report.findings} == (set() if is_shown else {"scan"})


def test_builds_pages_are_small_enough_for_row_groups_of_any_size(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=2, turns=20, seconds=5, rate_hz=44_100)
    build_rows(corpus, tmp_path / "rows")
    with (tmp_path / "rows" / SHARD).open("rb") as file:
        rows = pq.ParquetFile(file).metadata.row_group(0).num_rows
        longest = 2 * 44_100 * 7.5 + 44
        assert rows == 40
        assert (
            scanned(file, 0, rows, rows=1) < 8 * longest + 400_000
        )  # the writer's batches are of eight clips


# From the Hub.


def test_a_dataset_of_the_hub_is_checked_and_summed_by_reading_little_of_it(
    hub: MiniHub, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=40, turns=4, seconds=5)
    build_rows(corpus, tmp_path / "rows", shard_bytes=12_000_000)
    Publisher(tmp_path / "rows", Target(repo_id="org/large")).publish()
    size = sum(entry.size for entry in hub.repos["dataset", "org/large"].resolve("main").tree.values())
    assert size > 30_000_000
    hub.sent.clear()
    report = check_viewer("org/large")
    assert report.ok, str(report)
    assert report.num_files > 2
    from_files = sum(length for path, length in hub.sent if "/_cdn/" in path or "/resolve/" in path)
    assert from_files == report.num_bytes_read
    assert from_files < size / 20
    hub.sent.clear()
    assert stats("org/large") == stats(str(tmp_path / "rows"))
    assert sum(length for _, length in hub.sent) < size / 500
    hub.repos.clear()


def test_the_script_that_kills_a_dataset_of_the_hub_is_the_one_of_its_name(
    hub: MiniHub, folder: Path
) -> None:
    repo = Publisher(folder, Target(repo_id="org/talks"))
    repo.publish()
    repo._api.upload_file(
        path_or_fileobj=b"", path_in_repo="tool.py", repo_id="org/talks", repo_type="dataset"
    )
    assert check_viewer("org/talks").ok
    repo._api.upload_file(
        path_or_fileobj=b"", path_in_repo="talks.py", repo_id="org/talks", repo_type="dataset"
    )
    assert [finding.rule for finding in check_viewer("org/talks").findings] == ["script"]
    with pytest.raises(UsageError, match="no such dataset"):
        check_viewer("org/nowhere")
    hub.repos.clear()


def test_every_rule_has_its_spoilt_folder() -> None:
    source = "".join(
        path.read_text() for path in (Path(shards.__file__).parent).glob("*.py") if path.stem != "findings"
    )
    rules = {part.split('"')[1] for part in source.split("report.fail(")[1:]}
    assert rules == {rule for spoilt_rules, _, _ in SPOILT.values() for rule in spoilt_rules.split(", ")} | {
        "scan"
    }
