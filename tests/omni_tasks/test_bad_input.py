"""Every fault of the sources is accounted for, and costs its own row or file alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys.building import open_reader
from toys.building import read_rows
from toys.building import read_skipped
from toys.omni import ACTED
from toys.omni import AUDIO
from toys.omni import HEYSQUAD
from toys.omni import HUB
from toys.omni import LOQUACIOUS
from toys.omni import MIMI
from toys.omni import SAMPLE
from toys.omni import SIFTED
from toys.omni import build
from toys.omni import change
from toys.omni import everything
from toys.omni import in_words
from toys.omni import only
from toys.omni import read
from toys.omni import readers

from omni_tasks import SOURCES
from omni_tasks import OmniTasks
from speechrows.builds.sharding import plan_shards
from speechrows.errors import UsageError
from speechrows.types import Dialogue
from speechrows.types import UnreadableFile


def audio(**spoiled: Any) -> pa.Array:
    first, *rest = SAMPLE[LOQUACIOUS]["wav"].to_pylist()
    return pa.array([None if spoiled.get("is_null") else {**first, **spoiled}, *rest], AUDIO)


def codes(first: Any) -> list[Any]:
    return [first, *SAMPLE[MIMI]["codes"].to_pylist()[1:]]


WELL = [[7] * 23] * 8
FAULTS: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "a null clip": ("transcription", LOQUACIOUS, {"wav": audio(is_null=True)}, "missing", "null"),
    "a clip that is a path alone": (
        *("transcription", LOQUACIOUS, {"wav": audio(bytes=None, path="/home/them/a.wav")}),
        *("missing", "the path '/home/them/a.wav' alone"),
    ),
    "an empty clip": ("transcription", LOQUACIOUS, {"wav": audio(bytes=b"")}, "empty", "the file is empty"),
    "a clip that is no audio": (
        *("transcription", LOQUACIOUS, {"wav": audio(bytes=b"<html>" * 99)}),
        *("undecodable", ""),
    ),
    "a null text": ("transcription", LOQUACIOUS, {"text": [None, "yes"]}, "empty_text", "null"),
    "an empty text": ("transcription", LOQUACIOUS, {"text": [" ", "yes"]}, "empty_text", "empty"),
    "a text that is no UTF-8": (
        "transcription",
        LOQUACIOUS,
        {"text": pa.array([b"caf\xe9", b"yes"]).view(pa.string())},
        "bad_text",
        "caf",
    ),
    "a repeated id": ("transcription", LOQUACIOUS, {"ID": ["a", "a"]}, "bad_number", "the id 'a' again"),
    "eight empty code lists": ("s2s_mimi", MIMI, {"codes": codes([[]] * 8)}, "bad_codes", "without a frame"),
    "null codes": ("s2s_mimi", MIMI, {"codes": codes(None)}, "bad_codes", "null"),
    "ragged codes": ("s2s_mimi", MIMI, {"codes": codes([[1] * 22, *WELL[1:]])}, "bad_codes", "22 to 23"),
    "seven code lists": ("s2s_mimi", MIMI, {"codes": codes(WELL[1:])}, "bad_codes", "7 codebooks"),
    "a code of 2048": ("s2s_mimi", MIMI, {"codes": codes([[2048] * 23, *WELL[1:]])}, "bad_codes", "2048"),
    "a code below 0": ("s2s_mimi", MIMI, {"codes": codes([[-1] * 23, *WELL[1:]])}, "bad_codes", "-1"),
    "a code that is null": (
        "s2s_mimi",
        MIMI,
        {"codes": codes([[None] * 23, *WELL[1:]])},
        "bad_codes",
        "from -1 to",
    ),
    "a code list that is null": (
        "s2s_mimi",
        MIMI,
        {"codes": codes([None, *WELL[1:]])},
        "bad_codes",
        "0 to 23",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_row_is_skipped_with_its_reason_and_the_others_are_kept(fault, tmp_path):
    config, file, columns, reason, words = FAULTS[fault]
    hub = only(tmp_path, file)
    change(hub / file, **columns)
    summary = build(hub, tmp_path / "out", config)
    assert summary.skipped == {reason: 1}
    assert summary.rows == 1
    (line,) = read_skipped(tmp_path / "out")
    assert line["file"].startswith(file)
    assert words in line["detail"]
    assert str(tmp_path) not in json.dumps(line)


def test_what_is_no_utf_8_costs_no_row_where_it_is_not_said(tmp_path):
    """Of an id, a speaker, a trait, a file name: no column of rows could hold such bytes."""
    hub = only(tmp_path, LOQUACIOUS)
    bad = pa.array([b"caf\xe9", b"tea"]).view(pa.string())
    clips = pa.array([clip["bytes"] for clip in SAMPLE[LOQUACIOUS]["wav"].to_pylist()])
    wav = pa.StructArray.from_arrays([clips, bad], ["bytes", "path"])
    change(hub / LOQUACIOUS, ID=bad, spk_id=bad, sex=bad, wav=wav)
    summary = build(hub, tmp_path / "out", "transcription")
    assert summary.unknown_traits == {"gender: caf\\xe9": 1, "gender: tea": 1}
    row = read_rows(tmp_path / "out", "transcription")[0]
    assert (row["conversation_id"], row["speaker"]) == (r"LoquaciousSet/train/caf\xe9", r"caf\xe9")
    assert row["audio"]["path"] == "xe9.flac"  # below a folder, as the backslash reads


def test_an_answer_that_is_no_utf_8_is_skipped(tmp_path):
    hub = only(tmp_path, HEYSQUAD)
    bad = pa.array([b"caf\xe9", b"tea"]).view(pa.string())
    answers = pa.ListArray.from_arrays([0, 1, 2], pa.StructArray.from_arrays([bad], ["text"]))
    change(hub / HEYSQUAD, answers=answers, is_impossible=[False, False])
    summary = build(hub, tmp_path / "out", "answer_extraction")
    assert (summary.rows, summary.skipped) == (1, {"bad_text": 1})


def test_an_id_in_two_files_of_a_split_makes_one_row_however_files_are_shared_out(tmp_path):
    hub = only(tmp_path, LOQUACIOUS, LOQUACIOUS.replace("train", "dev"))
    for number in (0, 1):
        shutil.copy(
            hub / LOQUACIOUS, hub / f"speechbrain/LoquaciousSet/medium/train-0000{number}-of-00002.parquet"
        )
    (hub / LOQUACIOUS).unlink()
    for shard_bytes in (1, 1 << 30):
        out = tmp_path / f"out-{shard_bytes}"
        summary = build(hub, out, "transcription", shard_bytes=shard_bytes)
        assert (summary.rows, summary.skipped) == (3, {"bad_number": 2})
        assert [line["clip_id"] for line in read_skipped(out)] == [
            f"LoquaciousSet/train/train-00001-of-00002:{row}/0" for row in (0, 1)
        ]


@pytest.mark.parametrize("ids", [[None, None], ["", ""], pa.nulls(2)])
def test_rows_without_an_id_are_named_by_file_and_row(ids, tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    change(hub / LOQUACIOUS, ID=ids)
    assert [dialogue.conversation_id for dialogue in read(hub)] == [
        f"LoquaciousSet/train/train-00000-of-00001:{row}" for row in (0, 1)
    ]
    assert build(hub, tmp_path / "out", "transcription").rows == 2


@pytest.mark.parametrize(
    ("file", "columns", "needed"),
    [
        (LOQUACIOUS, {"wav": None}, "expected wav once"),
        (LOQUACIOUS, {"ID": None}, "expected ID once"),
        (LOQUACIOUS, {"wav": pa.array(["a.wav", "b.wav"])}, "expected wav as a struct of bytes and path"),
        (LOQUACIOUS, {"ID": pa.array([[1], [2]])}, "expected ID as a string"),
        (ACTED, {"mode": None}, "expected mode once"),
        (ACTED, {"sift_response": None}, "expected sift_response once"),
        (MIMI, {"codes": pa.array(["1 2", "3 4"])}, "expected codes as a list of lists"),
        (MIMI, {"codes": pa.array([[["1"]] * 8] * 2)}, "expected codes as a list of lists"),
        (MIMI, {"codes": pa.array([[[0.5]] * 8] * 2)}, "expected codes as a list of lists"),
        (HEYSQUAD, {"is_impossible": pa.array([1, 0])}, "expected is_impossible as true or false"),
        (HEYSQUAD, {"is_impossible": pa.array(["True", "no"])}, "expected is_impossible as true or false"),
    ],
)  # fmt: skip
def test_a_missing_column_is_refused_with_those_that_are_there(file, columns, needed, tmp_path):
    hub = only(tmp_path, file)
    change(hub / file, **columns)
    task = next(source.tasks[0] for source in SOURCES if file.startswith(source.repository))
    with pytest.raises(UsageError) as refused:
        build(hub, tmp_path / "out", task)
    assert needed in str(refused.value)
    for field in pq.read_schema(hub / file):
        assert f"{field.name} ({field.type})" in str(refused.value)


def test_a_renamed_column_is_refused_and_a_missing_trait_is_named(tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    table = pq.read_table(hub / LOQUACIOUS)
    pq.write_table(table.drop_columns(["sex", "spk_id"]), hub / LOQUACIOUS)
    assert "speechbrain/LoquaciousSet (1 file, without sex, spk_id)" in in_words(hub)
    assert [dialogue.turns[0].speaker for dialogue in read(hub)] == ["", ""]
    pq.write_table(table.rename_columns({"text": "sentence"}), hub / LOQUACIOUS)
    with pytest.raises(UsageError, match=r"sentence \(string\); expected text once"):
        read(hub)


@pytest.mark.parametrize("column", ["text", "sift_response"])
def test_texts_that_are_numbers_are_skipped(column, tmp_path):
    hub = only(tmp_path, ACTED, SIFTED)
    change(hub / ACTED, **{column: pa.array(range(6))})
    summary = build(hub, tmp_path / "out", "sift_s")
    assert (summary.rows, summary.skipped) == (2, {"bad_text": 2})
    assert summary.left_out == {"other_mode": 8}


def test_a_null_answer_is_left_out_and_an_unknown_mode_is_another(tmp_path):
    hub = only(tmp_path, ACTED)
    modes = ["sift_s", "sift_s", None, "describe", "SIFT_S", "sift_s"]
    change(hub / ACTED, mode=modes, sift_response=[None, "", "c", "d", "e", "Well."])
    summary = build(hub, tmp_path / "out", "sift_s")
    assert summary.left_out == {"no_answer": 1, "other_mode": 3}
    assert summary.skipped == {"empty_text": 1}
    assert [row["messages"][1]["content"] for row in read_rows(tmp_path / "out", "sift_s")] == ["Well."]


def test_texts_of_other_scripts_are_kept(tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    texts = ["今日はいい天気ですね。", "Приве́т, שלום 🙂"]
    change(hub / LOQUACIOUS, text=texts)
    build(hub, tmp_path / "out", "transcription")
    rows = read_rows(tmp_path / "out", "transcription")
    assert [row["transcript"] for row in rows] == texts


@pytest.mark.parametrize(
    "kind",
    [
        *("large", "dictionary", "views", "plain bytes", "no path", "extra field"),
        *("int16 codes", "uint16 codes", "large lists", "eight lists"),
    ],
)
def test_other_types_of_the_same_cells_are_the_same_utterances(kind, tmp_path):
    hub = only(tmp_path, LOQUACIOUS, MIMI)
    expected = read(hub)
    sample, codes = SAMPLE[LOQUACIOUS], SAMPLE[MIMI]["codes"].combine_chunks()
    wav = sample["wav"].to_pylist()
    changes: dict[str, Callable[[], Any]] = {
        "large": lambda: change(
            hub / LOQUACIOUS,
            text=sample["text"].combine_chunks().cast(pa.large_string()),
            wav=pa.array(wav, pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])),
        ),
        "dictionary": lambda: change(
            hub / LOQUACIOUS,
            **{n: sample[n].combine_chunks().dictionary_encode() for n in ("ID", "text", "sex", "spk_id")},
        ),
        "views": lambda: change(
            hub / LOQUACIOUS,
            **{n: sample[n].combine_chunks().cast(pa.string_view()) for n in ("ID", "text", "sex", "spk_id")},
            wav=pa.array(wav, pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])),
        ),
        "uint16 codes": lambda: change(hub / MIMI, codes=codes.cast(pa.list_(pa.list_(pa.uint16())))),
        "eight lists": lambda: change(
            hub / MIMI, codes=pa.array(codes.to_pylist(), pa.list_(codes.type.value_type, 8))
        ),
        "int16 codes": lambda: change(hub / MIMI, codes=codes.cast(pa.list_(pa.list_(pa.int16())))),
        "large lists": lambda: change(hub / MIMI, codes=codes.cast(pa.large_list(pa.large_list(pa.int64())))),
        "plain bytes": lambda: change(hub / LOQUACIOUS, wav=pa.array([clip["bytes"] for clip in wav])),
        "no path": lambda: change(hub / LOQUACIOUS, wav=pa.array([{"bytes": clip["bytes"]} for clip in wav])),
        "extra field": lambda: change(
            hub / LOQUACIOUS, wav=pa.array([{"sampling_rate": 16000, "path": None, **clip} for clip in wav])
        ),
    }
    changes[kind]()
    dialogues = read(hub)
    assert dialogues == expected
    for dialogue, other in zip(dialogues, expected, strict=True):
        turn, same = dialogue.turns[0], other.turns[0]
        assert turn.audio is not None
        assert same.audio is not None
        assert bytes(turn.audio.data or b"") == bytes(same.audio.data or b"")
        if turn.codes is not None and same.codes is not None:
            assert turn.codes.values.dtype == "int16"
            assert (turn.codes.values == same.codes.values).all()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def lead_out(path: Path) -> None:
    path.rename(path.parents[4] / "elsewhere.parquet")
    path.symlink_to(path.parents[4] / "elsewhere.parquet")


@pytest.mark.parametrize("spoil", [truncate, empty, replace, lead_out])
def test_a_file_that_is_no_parquet_is_named_and_the_next_is_read(spoil, tmp_path):
    hub = only(tmp_path, LOQUACIOUS, LOQUACIOUS.replace("train", "dev"))
    spoil(hub / LOQUACIOUS)
    summary = build(hub, tmp_path / "out", "transcription")
    assert (summary.rows, summary.skipped) == (1, {})
    (line,) = read_skipped(tmp_path / "out")
    assert (line["clip_id"], line["file"]) == (None, LOQUACIOUS)
    assert str(tmp_path) not in json.dumps(line)


def test_of_a_file_with_a_rotten_row_group_the_others_are_kept(tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    path = hub / LOQUACIOUS
    table = pa.concat_tables([SAMPLE[LOQUACIOUS]] * 2)
    table = table.set_column(0, "ID", pa.array(list("abcd")))
    pq.write_table(table, path, row_group_size=1, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(2)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    items = list(everything(readers(hub)))
    assert [item.conversation_id[-1] for item in items if isinstance(item, Dialogue)] == ["a", "c", "d"]
    (broken,) = [item for item in items if isinstance(item, UnreadableFile)]
    assert broken.file == LOQUACIOUS
    assert "rows 1 to 1" in broken.detail


@pytest.mark.parametrize("layout", [{"row_group_size": 100}, {"write_batch_size": 16}])
def test_clips_are_views_of_arrows_memory_and_a_reader_holds_a_batch_at_a_time(layout, tmp_path):
    path = only(tmp_path, LOQUACIOUS) / LOQUACIOUS
    clip = {"bytes": bytes(100_000), "path": None}
    rows = {
        "ID": [str(i) for i in range(1000)],
        "wav": pa.array([clip] * 1000, AUDIO),
        "text": ["yes"] * 1000,
    }
    pq.write_table(pa.table(rows), path, use_dictionary=False, compression="none", **layout)  # 100 MB
    del rows
    before, peak = pa.total_allocated_bytes(), 0
    for dialogue in everything(readers(tmp_path / "hub")):
        assert isinstance(dialogue, Dialogue)
        data = dialogue.turns[0].audio.data
        assert isinstance(data.obj, pa.Buffer)
        assert data.obj.size > len(data) == 100_000  # of many clips: not a copy of one
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 40 << 20


def test_shards_do_not_depend_on_which_other_sources_are_there(tmp_path):
    folders = (HUB, only(tmp_path, MIMI))
    shards = [plan_shards(open_reader(OmniTasks, folder, "s2s_mimi")[1].units) for folder in folders]
    assert shards[0] == shards[1]
    assert OmniTasks.DEFAULT_CONFIG_NAME == "omni"
