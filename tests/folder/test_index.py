"""The index as columns: what a config, a stage or a union holds, from disk and from the Hub."""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from huggingface_hub import HfApi
from toys.building import build_rows
from toys.building import read_rows
from toys.corpus import write_corpus
from toys.mini_hub import MiniHub
from toys.samples import SAMPLE_OF
from toys.samples import XTTS

from speechrows.cli import main
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.folder import index as index_module
from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan_rows import plan_rows

BUILT = "org/indexed"
EQUAL = ("turn_number", "num_tokens", "num_samples", "sampling_rate")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations of bands 1, 2 and 4, in many small shards; ttt and response rows."""
    folder = tmp_path_factory.mktemp("staged")
    for name, turns in {"one": 6, "two": 22, "four": 70}.items():
        write_corpus(folder / "corpus", dialogues=3, turns=turns, seconds=0.5, domains=(name,))
    for config in ("ttt", "response"):
        build_rows(
            folder / "corpus", folder / "rows", config, audio_tokens_per_second="1000", shard_bytes=2_000_000
        )
    return folder / "rows"


@pytest.fixture
def spoiled(staged: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(staged, tmp_path / "rows"))


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("omni") / "rows"
    for config in ("transcription", "answer_extraction"):
        build_rows(SAMPLE_OF["omni_tasks"], out, config, builder="omni_tasks")
    return out


def assert_same(index: Index, rows: list[dict]) -> None:
    """Every column is that of the rows, and every clip lies where the index says."""
    assert len(index) == len(rows)
    for name in EQUAL:
        assert getattr(index, name).tolist() == [row[name] for row in rows]
    assert index.padded_tokens.tolist() == [len(row["input_ids"]) for row in rows]
    assert index.row_ids(range(len(rows))) == [row["row_id"] for row in rows]
    ids = list(dict.fromkeys((row["task"], row["conversation_id"]) for row in rows))
    assert index.conversation.tolist() == [ids.index((row["task"], row["conversation_id"])) for row in rows]
    for i, row in enumerate(rows):
        shard = index.shards[index.shard[i]]
        clip = index.folder.fs.cat_file(
            f"{index.folder.root}/{shard.path}",
            int(index.audio_offset[i]),
            int(index.audio_offset[i] + index.audio_length[i]),
        )
        assert clip == row["audio"]["bytes"]


@pytest.mark.parametrize("config", ["ttt", "response", "stage_1", "stage_2", "stage_4"])
def test_a_config_has_the_rows_that_datasets_loads_of_it_in_the_same_order(staged: Path, config: str) -> None:
    index = Index.open(str(staged), config)
    task = "response" if config == "response" else "ttt"
    loaded = load_dataset(str(staged), config, split="train", streaming=True)
    expected = [row["row_id"] for row in loaded.select_columns(["row_id"])]
    rows = {row["row_id"]: row for row in read_rows(staged, task)}
    assert_same(index, [rows[row_id] for row_id in expected])
    assert len(index.shards) > 1
    assert {shard.task for shard in index.shards} == {task}
    assert index.whole is True
    assert index.pad_to_multiple_of == (64 if task == "ttt" else 1)
    assert index.facts[task].audio_tokens_per_second == 1000


def test_row_groups_and_shards_are_where_the_rows_are(staged: Path) -> None:
    index = Index.open(str(staged), "stage_4")
    for number, shard in enumerate(index.shards):
        with pq.ParquetFile(staged / shard.path) as file:
            rows = np.flatnonzero(index.shard == number)
            assert len(rows) == shard.rows == file.metadata.num_rows
            for group in range(file.num_row_groups):
                expected = file.read_row_group(group, ["row_id"])["row_id"].to_pylist()
                assert index.row_ids(rows[index.row_group[rows] == group].tolist()) == expected
        index.check_shard(number)
    rows = plan_rows(index, windowed=True)
    groups = list(zip(index.shard.tolist(), index.row_group.tolist(), strict=True))
    assert [list(dict.fromkeys(groups))[n] for n in rows.row_groups.tolist()] == groups
    assert rows.num_bytes.tolist() == index.audio_length.tolist()


def test_an_index_has_few_row_groups_whatever_the_shards(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.open(str(staged), "ttt")
    assert len(index.shards) > 3
    with pq.ParquetFile(staged / "index/ttt/train.parquet") as file:
        assert file.num_row_groups == 1
    monkeypatch.setattr("speechrows.builds.run._INDEX_GROUP_ROWS", 40)
    write_corpus(tmp_path / "corpus", dialogues=12, turns=10, seconds=0.5)
    build_rows(tmp_path / "corpus", tmp_path / "rows", shard_bytes=1_000_000)
    groups = pq.read_metadata(tmp_path / "rows/index/ttt/train.parquet")
    sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert len(sizes) > 1
    assert min(sizes[:-1]) >= 40
    assert_same(Index.open(str(tmp_path / "rows"), "ttt"), read_rows(tmp_path / "rows"))


def test_batches_of_lines_join_to_the_same_columns(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Index.open(str(staged), "stage_2")
    monkeypatch.setattr(index_module, "_BATCH_ROWS", 7)
    index = Index.open(str(staged), "stage_2")
    for name in (*EQUAL, "conversation", "shard", "row_group", "audio_offset", "audio_length"):
        assert getattr(index, name).tolist() == getattr(expected, name).tolist()
    assert index.row_ids([40, 0, 40]) == expected.row_ids([40, 0, 40])


def test_a_union_has_the_rows_of_its_tasks(omni: Path) -> None:
    index = Index.open(str(omni), "omni")
    rows = [*read_rows(omni, "transcription"), *read_rows(omni, "answer_extraction")]
    assert_same(index, [row for row in rows if row["row_id"].startswith("omni_tasks/train/")])
    assert list(index.facts) == ["transcription", "answer_extraction"]
    assert index.whole is False
    plan = plan_epoch(plan_rows(index), PlanOptions(mode="lanes", context=4096))
    assert all(batch.reset.all() for step in plan for batch in step), "rows of these tasks stand alone"


def test_a_plan_is_made_of_an_index_and_its_errors_name_rows(staged: Path) -> None:
    index = Index.open(str(staged), "stage_1")
    options = PlanOptions(mode="lanes", context=8192, pad_to_multiple_of=index.pad_to_multiple_of)
    plan = plan_epoch(plan_rows(index), options)
    assert sorted(plan.rows) == list(range(len(index)))
    seconds = [
        Fraction(*pair) for pair in zip(index.num_samples.tolist(), index.sampling_rate.tolist(), strict=True)
    ]
    assert plan_rows(index).ticks.tolist() == [math.ceil(100 * length) for length in seconds]
    with pytest.raises(UsageError, match=f"^{index.row_id(int(index.num_tokens.argmax()))}: a row of "):
        plan_epoch(plan_rows(index), PlanOptions(mode="lanes", context=64), name=index.row_id)


def test_a_shard_that_is_not_the_one_of_the_index_is_refused_by_name(spoiled: Path) -> None:
    index = Index.open(str(spoiled), "ttt")  # nothing is read of shards before they are asked for
    first, second, third = (spoiled / shard.path for shard in index.shards[:3])
    first.unlink()
    second.write_bytes(second.read_bytes() + b"x")
    data = bytearray(third.read_bytes())
    data[-20] ^= 1  # in the footer
    third.write_bytes(bytes(data))
    for number, message in enumerate(("is missing", r"found \d+ bytes, expected \d+", "another footer")):
        with pytest.raises(ShortfallError, match=f"{index.shards[number].path} .*{message}"):
            index.check_shard(number)
    index.check_shard(3)


def _rewrite(path: Path, change) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def test_an_index_that_lacks_lines_or_turns_is_refused(spoiled: Path) -> None:
    path = spoiled / "index/ttt/train.parquet"
    shutil.copy(path, spoiled / "kept.parquet")
    _rewrite(path, lambda table: table.slice(0, len(table) - 1))
    with pytest.raises(ShortfallError, match="lines of ttt, its shards promise"):
        Index.open(str(spoiled), "ttt")
    for turns, wrong in (
        ([1, 0, 2, 3, 4, 5], "1 stands in the place of 0"),
        ([0, 1, 2, 3, 4, 7], "7 stands in"),
    ):

        def change(table: pa.Table, turns=turns) -> pa.Table:
            numbers = table["turn_number"].to_pylist()
            numbers[:6] = turns
            at = table.schema.get_field_index("turn_number")
            return table.set_column(at, "turn_number", pa.array(numbers, pa.int32()))

        shutil.copy(spoiled / "kept.parquet", path)
        _rewrite(path, change)
        with pytest.raises(ShortfallError, match=f"not whole in the index: turn {wrong}"):
            Index.open(str(spoiled), "ttt")


def test_a_name_that_is_not_there_is_refused_with_those_that_are(staged: Path) -> None:
    with pytest.raises(UsageError, match=r"no config 'stage_9'; it has ttt, stage_1, .*response"):
        Index.open(str(staged), "stage_9")
    with pytest.raises(UsageError, match="ttt has no split 'test'; it has train"):
        Index.open(str(staged), "ttt", "test")


def test_an_index_whose_facts_are_damaged_is_refused_with_what_is_expected(spoiled: Path) -> None:
    path = spoiled / "index/ttt/train.parquet"
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"speechrows"])
    for damaged in ("{", "[]", *(json.dumps({**facts, name: None}) for name in facts)):
        pq.write_table(table.replace_schema_metadata({"speechrows": damaged}), path)
        with pytest.raises(
            UsageError, match=r"train\.parquet: its parquet metadata is damaged: found .* expected"
        ):
            Index.open(str(spoiled), "ttt")
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(UsageError, match=r"train\.parquet is no index that a build wrote"):
        Index.open(str(spoiled), "ttt")


def test_a_folder_and_an_index_say_in_short_what_they_are(staged: Path) -> None:
    assert repr(RowsFolder.open(str(staged))) == f"RowsFolder({str(staged)!r}: 2 tasks, 2 splits)"
    index = Index.open(str(staged), "stage_1")
    expected = f"{len(index)} rows, 3 conversations, 0.00 hours, {len(index.shards)} shards"
    assert repr(index) == f"Index('stage_1', 'train': {expected})"


def test_a_shard_is_checked_once_and_again_where_its_file_has_changed(spoiled: Path) -> None:
    index = Index.open(str(spoiled), "ttt")
    shard = spoiled / index.shards[0].path
    index.check_shard(0)
    stat = shard.stat()
    data = shard.read_bytes()
    shard.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])  # in the footer
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    index.check_shard(0)  # not read again: as far as the file system tells, it is the same file
    os.utime(shard)
    with pytest.raises(ShortfallError, match="another footer"):
        index.check_shard(0)


def test_files_that_speechrows_did_not_write_are_refused_with_what_is_expected(tmp_path: Path) -> None:
    pq.write_table(pa.table({"audio": [b"x"]}), tmp_path / "rows.parquet")
    for address in (tmp_path, tmp_path / "rows.parquet"):
        with pytest.raises(UsageError, match="expected a folder that `speechrows build` wrote, or a Hub"):
            Index.open(str(address), "ttt")


def test_a_folder_whose_build_has_not_ended_is_refused(spoiled: Path) -> None:
    (spoiled / "README.md").unlink()
    with pytest.raises(UsageError, match=r"has no README\.md, which a build writes last"):
        Index.open(str(spoiled), "ttt")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("published") / "rows"
    build_rows(XTTS, folder)
    api = HfApi()
    api.create_repo(BUILT, repo_type="dataset", exist_ok=True)
    api.upload_folder(repo_id=BUILT, repo_type="dataset", folder_path=folder, ignore_patterns=".build/**")
    yield folder
    api.delete_repo(BUILT, repo_type="dataset")


def test_the_index_of_a_hub_dataset_is_that_of_its_folder(hub: MiniHub, published: Path) -> None:
    index = Index.open(BUILT, "stage_1")
    assert_same(index, read_rows(published))
    index.check_shard(0)
    index = Index.open(f"hf://datasets/{BUILT}", "stage_1")
    assert len(index) == len(read_rows(published))


def test_stats_with_a_context_tells_the_fill_of_every_config_that_the_card_lists(
    tmp_path: Path, capsys
) -> None:
    build_rows(XTTS, tmp_path / "rows", "ttt")
    build_rows(XTTS, tmp_path / "rows", "transcription")
    for mode in ("lanes", "pack"):
        assert main(["stats", str(tmp_path / "rows"), "--context", "512", "--mode", mode, "--json"]) == 0
        sums = {stat["config"]: stat for stat in json.loads(capsys.readouterr().out)}
        assert sorted(sums) == ["stage_1", "stage_2", "stage_3", "stage_4", "transcription", "ttt"]
        index = Index.open(str(tmp_path / "rows"), "stage_2")
        plan = plan_epoch(plan_rows(index), PlanOptions(mode=mode, context=512, too_long="drop"))
        assert (sums["stage_2"]["fill"], sums["stage_2"]["steps"]) == (plan.fill, len(plan))
        assert 0.5 < plan.fill <= 1
        if mode == "pack":
            assert sums["stage_2"]["sessions"] is None
            continue
        options = PlanOptions(mode=mode, context=512, too_long="drop", session_tokens=512)
        chained = plan_epoch(plan_rows(index, sourced=True), options)
        assert chained.resets is not None
        assert sums["stage_2"]["sessions"] == int(chained.resets.sum())
        assert 0 < sums["stage_2"]["session_tokens_p50"] <= index.num_tokens.sum()
        tokens = int(index.num_tokens.sum())
        assert plan.fill == pytest.approx(tokens / (len(plan) * 512), abs=0.2)
    assert main(["stats", str(tmp_path / "rows"), "--context", "512"]) == 0
    printed = capsys.readouterr().out
    assert "fill of 512 tokens, mode lanes:" in printed
    assert re.search(r"with session_tokens=512, sessions.*\nttt +train +\d+ of \d+ tokens", printed)
