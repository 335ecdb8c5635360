"""What `export webdataset` writes, webdataset itself and our own audio_table read as the same rows."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from toys.building import build_rows
from toys.building import read_rows
from toys.corpus import write_corpus
from toys.samples import SAMPLE_OF
from toys.talks import build_talks

from speechrows.interop.options import WebDatasetOptions
from speechrows.interop.tar import TarShard
from speechrows.interop.webdataset import export

AUDIO = ("audio", "target_audio")


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its clips."""
    return {name: value for name, value in row.items() if name not in AUDIO}


def bytes_of(row: dict[str, Any]) -> list[bytes | None]:
    return [row[name] and row[name]["bytes"] for name in AUDIO]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Response rows of talks, of many shards, and rows of chats, some of text alone; both exported."""
    folder = tmp_path_factory.mktemp("built")
    build_talks(folder, "response", shard_bytes=1)
    build_rows(SAMPLE_OF["chat_json"], folder / "chats", "chat", builder="chat_json")
    for name in ("rows", "chats"):
        export(str(folder / name), folder / "tars" / name, WebDatasetOptions())
    return folder


@pytest.mark.parametrize(("name", "task"), [("rows", "response"), ("chats", "chat")])
def test_webdataset_reads_every_row_back(built: Path, name: str, task: str) -> None:
    webdataset = pytest.importorskip("webdataset")
    tars = [str(path) for path in sorted((built / "tars" / name).iterdir())]
    samples = [*webdataset.WebDataset(tars, shardshuffle=False)]
    rows = read_rows(built / name, task)
    assert [json.loads(sample["json"]) for sample in samples] == [plain(row) for row in rows]
    for sample, row in zip(samples, rows, strict=True):
        assert [sample.get("opus"), sample.get("target.opus")] == bytes_of(row)
        assert sample["txt"].decode() == row["messages"][1]["content"]
    keys = [sample["__key__"] for sample in samples]
    assert keys == [f"train-{row:09d}" for row in range(len(rows))]


def test_audio_table_builds_rows_of_the_archives_again(built: Path, tmp_path: Path) -> None:
    build_rows(
        built / "tars/rows",
        tmp_path / "again",
        "answer_extraction",
        builder="audio_table",
        text="transcript",
        answer="txt",
        conversation="",
    )
    again, rows = read_rows(tmp_path / "again", "answer_extraction"), read_rows(built / "rows", "response")
    assert [(row["audio"]["bytes"], row["transcript"], row["speaker"]) for row in again] == [
        (row["audio"]["bytes"], row["transcript"], row["speaker"]) for row in rows
    ]
    assert [row["messages"][1]["content"] for row in again] == [
        row["messages"][1]["content"].lower() for row in rows
    ]


def test_shards_are_of_a_size_and_end_between_conversations(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", dialogues=5, turns=2, seconds=4.0)  # about 0.4 MiB each
    build_rows(tmp_path / "corpus", tmp_path / "rows")
    lines = export(str(tmp_path / "rows"), tmp_path / "out", WebDatasetOptions(shard_mb=1))
    assert lines[0].startswith(f"{tmp_path / 'out'}: train: 5 conversations, 10 turns, ")
    shards = sorted((tmp_path / "out").iterdir())
    assert [shard.name for shard in shards] == [f"train-{number:06d}.tar" for number in range(len(shards))]
    assert len(shards) > 1
    conversations = list[set[str]]()
    for shard in shards:
        assert shard.stat().st_size < 1.1 * 2**20
        with tarfile.open(shard) as tar:
            texts = [tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".json")]
        conversations.append({json.loads(text)["conversation_id"] for text in texts})
    assert sum(map(len, conversations)) == len(set.union(*conversations)) == 5


def test_a_tar_is_one_that_tarfile_writes_with_the_same_facts() -> None:
    members = {"a.wav": b"x" * 700, "a.json": b"{}", "b.txt": b"", "b.wav": b"y" * 512, "ü" * 200: b"z"}
    ours, theirs = io.BytesIO(), io.BytesIO()
    shard = TarShard(ours)
    with tarfile.open(fileobj=theirs, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            shard.add(name, memoryview(data))
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o444
            tar.addfile(member, io.BytesIO(data))
    shard.close()
    assert ours.getvalue() == theirs.getvalue()
