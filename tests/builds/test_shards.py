"""Shard files: row groups of whole conversations, audio as it is, an index that finds every clip."""

import shutil
import time
from itertools import groupby
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from toys.audio import wav
from toys.building import build_rows
from toys.building import read_rows
from toys.corpus import write_corpus

from speechrows.builds import pipeline
from speechrows.builds.pipeline import Destination
from speechrows.builds.shard_writer import MAX_GROUP_BYTES
from speechrows.builds.shard_writer import MIN_GROUP_BYTES
from speechrows.builds.shard_writer import ShardWriter
from speechrows.folder.rows_folder import RowsFolder
from speechrows.storage.parquet_file import footer_digest

SMALL_SHARDS = 400_000  # bytes: three dialogues each


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine dialogues; one has lost a clip, so that something is skipped."""
    folder = write_corpus(tmp_path_factory.mktemp("a") / "corpus", dialogues=9, seconds=0.6)
    next(folder.rglob("travel_3_4/segments/002*")).unlink()
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """160 MB of long clips, in one folder all train, in the other some dialogues moved to validation."""
    base = tmp_path_factory.mktemp("large")
    corpus = write_corpus(base / "corpus", dialogues=28, seconds=30)
    build_rows(corpus, base / "whole")
    build_rows(corpus, base / "divided", validation_fraction=0.5)
    shutil.rmtree(corpus)
    return base / "whole", base / "divided"


def test_row_groups_are_whole_conversations_of_32_to_64_mib(large: tuple[Path, Path]) -> None:
    for out in large:
        for path in sorted((out / "data").rglob("*.parquet")):
            _check_groups(path)
    whole = pq.ParquetFile(next((large[0] / "data").rglob("*.parquet"))).metadata
    assert whole.num_row_groups == 4


def _check_groups(path: Path) -> None:
    file, before, sizes = pq.ParquetFile(path), set[str](), list[int]()
    for group in range(file.metadata.num_row_groups):
        table = file.read_row_group(group, columns=["audio", "conversation_id", "turn_number", "num_turns"])
        ids = set(table["conversation_id"].to_pylist())
        assert not ids & before
        before |= ids
        rows = table.select(["conversation_id", "turn_number", "num_turns"]).to_pylist()
        for _, conversation in groupby(rows, lambda row: row["conversation_id"]):
            turns = list(conversation)
            assert [row["turn_number"] for row in turns] == list(range(turns[0]["num_turns"]))
        sizes.append(pc.sum(pc.binary_length(pc.struct_field(table["audio"], "bytes"))).as_py())
    assert all(MIN_GROUP_BYTES <= size <= MAX_GROUP_BYTES for size in sizes[:-1]), sizes
    assert sizes[-1] <= MAX_GROUP_BYTES, sizes


def test_a_large_table_behind_a_pending_one_is_cut_between_conversations(
    large: tuple[Path, Path], tmp_path: Path
) -> None:
    table = pq.read_table(next((large[0] / "data").rglob("*.parquet")))
    sizes = np.cumsum(pc.binary_length(pc.struct_field(table["audio"], "bytes")).to_numpy())
    place = Destination("train", 1)
    first = int(np.searchsorted(sizes, MIN_GROUP_BYTES)) // 4 * 4  # just too little for a group
    second = int(np.searchsorted(sizes, sizes[first - 1] + (45 << 20))) // 4 * 4
    assert sizes[second - 1] > MAX_GROUP_BYTES
    writer = ShardWriter(tmp_path, "test")
    writer.write(place, table.slice(0, first))
    writer.write(place, table.slice(first, second - first))
    (file,) = writer.close()
    _check_groups(file.temporary)
    assert pq.read_table(file.temporary).equals(table.slice(0, second))


def test_audio_is_stored_as_it_is_and_pages_are_indexed(large: tuple[Path, Path]) -> None:
    metadata = pq.read_metadata(next((large[0] / "data").rglob("*.parquet")))
    for group in range(metadata.num_row_groups):
        for i in range(metadata.num_columns):
            column = metadata.row_group(group).column(i)
            assert column.has_offset_index, column.path_in_schema
            if column.path_in_schema in ("audio.bytes", "target_audio.bytes"):
                assert column.compression == "UNCOMPRESSED"
                assert not column.has_dictionary_page
                assert set(column.encodings) <= {"PLAIN", "RLE"}
            else:
                assert column.compression == "ZSTD"
                assert column.has_column_index, column.path_in_schema


def test_the_index_finds_every_clip_of_large_shards(large: tuple[Path, Path]) -> None:
    for out in large:
        _check_index(out, "ttt")


def test_a_slow_disk_gets_every_clip_as_a_fast_one_does(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_rows(corpus, tmp_path / "fast", shard_bytes=SMALL_SHARDS)
    write = ShardWriter.write

    def write_late(self: ShardWriter, destination: Destination, table: pa.Table) -> None:
        time.sleep(0.03)
        write(self, destination, table)

    monkeypatch.setattr(ShardWriter, "write", write_late)
    monkeypatch.setattr(pipeline, "GROUP_BYTES", 200_000)  # some dialogues a table
    build_rows(corpus, tmp_path / "slow", shard_bytes=SMALL_SHARDS)
    assert read_rows(tmp_path / "slow") == read_rows(tmp_path / "fast")


@pytest.mark.parametrize("task", ["ttt", "transcription", "response"])
def test_the_index_finds_every_clip(corpus: Path, tmp_path: Path, task: str) -> None:
    build_rows(corpus, tmp_path / "out", task, shard_bytes=SMALL_SHARDS, validation_fraction=0.3)
    _check_index(tmp_path / "out", task)


@pytest.mark.parametrize("task", ["ttt", "response"])
def test_the_index_finds_every_clip_where_clips_are_tiny_and_alike(tmp_path: Path, task: str) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=150, turns=6, seconds=0.01)
    for i, path in enumerate(sorted(corpus.rglob("*.wav"))):
        if i % 3 == 0:
            path.write_bytes(wav(bytes(2 * (1 + i % 2))))  # one or two samples of silence
    build_rows(corpus, tmp_path / "out", task)
    assert len(read_rows(tmp_path / "out", task)) == 150 * (6 if task == "ttt" else 3)
    _check_index(tmp_path / "out", task)


def _check_index(out: Path, task: str) -> None:
    """Every line names its row, in file order, and the place of exactly its clip."""
    folder = RowsFolder.open(str(out))
    for name, split in folder.splits():
        assert name == task
        index = folder.index(task, split).to_pylist()
        shards = {shard.path: shard for shard in folder.index_facts(task, split).shards}
        files = sorted((out / "data" / task / split).rglob("*.parquet"))
        assert [str(file.relative_to(out)) for file in files] == sorted(shards)
        lines = iter(index)
        for file in files:
            path = str(file.relative_to(out))
            shard = shards[path]
            assert (shard.size, shard.footer_sha256) == (
                file.stat().st_size,
                footer_digest(file.open("rb")),
            )
            opened, count, data = pq.ParquetFile(file), 0, file.read_bytes()
            for group in range(opened.metadata.num_row_groups):
                for row in opened.read_row_group(group).to_pylist():
                    line, count = next(lines), count + 1
                    at, length = line["audio_offset"], line["audio_length"]
                    assert data[at : at + length] == row["audio"]["bytes"], row["row_id"]
                    assert (line["shard"], line["row_group"]) == (path, group)
                    assert line["padded_tokens"] == len(row["input_ids"])
                    same = set(line) & set(row)
                    assert len(same) == 8
                    assert all(line[key] == row[key] for key in same)
            assert count == shard.rows
        assert next(lines, None) is None


def test_response_rows_carry_the_answer_as_published(corpus: Path, tmp_path: Path) -> None:
    build_rows(corpus, tmp_path / "out", "response")
    clips = {path.read_bytes() for path in corpus.rglob("*_LLM2_*.wav")}
    rows = read_rows(tmp_path / "out", "response")
    assert rows
    assert all(row["target_audio"]["bytes"] in clips for row in rows)


def test_validation_takes_whole_conversations(large: tuple[Path, Path]) -> None:
    ids: dict[str, list[str]] = {}
    for split in ("train", "validation"):
        ids[split] = RowsFolder.open(str(large[1])).index("ttt", split)["conversation_id"].to_pylist()
        assert all(ids[split].count(name) == 4 for name in ids[split])
        assert sum(a != b for a, b in pairwise(ids[split])) == len(ids[split]) // 4 - 1
    assert not set(ids["train"]) & set(ids["validation"])
    assert len(ids["train"]) + len(ids["validation"]) == 28 * 4
