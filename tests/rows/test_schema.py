"""What schema.py promises: one table for every task, audio bytes as they are, readable by datasets."""

import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio
from datasets import Dataset
from datasets import Features
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.rows.schema import ARROW_SCHEMA
from speechrows.rows.schema import AUDIO_COLUMNS
from speechrows.rows.schema import FEATURES
from speechrows.rows.schema import to_table
from speechrows.types import Clip
from speechrows.types import Codes
from speechrows.types import Row
from speechrows.types import Traits


def stored_clip(start: int, stop: int, name: str = "a.wav") -> Clip:
    return Clip(name=name, start=start, stop=stop, sampling_rate=16000, num_samples=(stop - start) // 2)


def row(
    number: int, spoken: Clip, answer: Clip | None = None, num_ids: int = 3, codes: Codes | None = None
) -> Row:
    ids = np.arange(number, number + num_ids, dtype=np.int32)
    return Row(
        row_id=f"b/train/c/{number}/ttt",
        task="ttt",
        split="train",
        clip_id=f"c/{number}",
        conversation_id="c",
        turn_number=number,
        num_turns=2,
        speaker="LLM1",
        role="user",
        clip=spoken,
        transcript="thé",
        messages=(("user", "<audio>"), ("assistant", "thé")),
        text="User: <audio>\nAssistant: thé",
        input_ids=ids,
        labels=np.where(ids % 2, ids, -100).astype(np.int32),
        num_tokens=num_ids,
        conversation_tokens=128,
        target_clip=answer,
        codes=codes,
        traits=Traits(emotion="happy"),
        domain=None,
        source="corpus/a.wav",
    )


@st.composite
def placed(draw):
    """Clips in a buffer, end to end or with gaps before, between and after them; and who has an answer."""
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    gaps = draw(st.one_of(st.just([0] * 6), st.lists(st.integers(0, 9), min_size=6, max_size=6)))
    at, clips = draw(st.sampled_from([0, 5])), []
    for size, gap in zip(sizes, gaps, strict=False):
        clips.append((at, at + size))
        at += size + gap
    answers = draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    return clips, answers, at + draw(st.integers(0, 20))


@MANY
@given(placed())
def test_the_bytes_of_every_clip_are_those_of_the_buffer_whatever_the_gaps(case):
    places, answers, size = case
    buffer = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    clips = [stored_clip(start, stop, f"{start}.wav") for start, stop in places]
    rows = [row(i, spoken, clips[-1 - i] if answers[i] else None) for i, spoken in enumerate(clips)]
    table = to_table(rows, buffer)
    table.validate(full=True)
    for name, column in (("clip", "audio"), ("target_clip", "target_audio")):
        for source_row, cell in zip(rows, table[column].to_pylist(), strict=True):
            expected_clip = getattr(source_row, name)
            if expected_clip is None:
                assert cell is None
            else:
                expected = buffer[expected_clip.start : expected_clip.stop].tobytes()
                assert cell == {"bytes": expected, "path": expected_clip.name}


def test_clips_that_follow_one_another_are_not_copied():
    buffer = np.zeros(100, np.uint8)
    table = to_table([row(0, stored_clip(10, 30)), row(1, stored_clip(30, 70))], buffer)
    data = table["audio"].chunk(0).field("bytes").buffers()[2]
    assert data.address == buffer.__array_interface__["data"][0]


def test_a_row_goes_in_and_comes_out_column_by_column():
    written = row(1, stored_clip(0, 8))
    (cells,) = to_table([written], np.zeros(8, np.uint8)).to_pylist()
    assert cells["messages"] == [
        {"role": "user", "content": "<audio>"},
        {"role": "assistant", "content": "thé"},
    ]
    assert cells["input_ids"] == written.input_ids.tolist()
    assert cells["labels"] == written.labels.tolist()
    assert (cells["sampling_rate"], cells["num_samples"]) == (16000, 4)
    assert (cells["emotion"], cells["gender"], cells["domain"]) == ("happy", None, None)
    assert (cells["codec"], cells["codec_targets"], cells["target_audio"]) == (None, None, None)
    same = ("row_id", "task", "clip_id", "conversation_id", "turn_number", "num_turns", "speaker", "role")
    for name in (*same, "transcript", "text", "num_tokens", "conversation_tokens", "source"):
        assert cells[name] == getattr(written, name)


@pytest.mark.parametrize("num_ids", [0, 1, 64])
def test_rows_of_different_lengths_keep_their_own_ids(num_ids):
    rows = [row(0, stored_clip(0, 2), num_ids=num_ids), row(5, stored_clip(2, 4), num_ids=7)]
    table = to_table(rows, np.zeros(4, np.uint8))
    assert table["input_ids"].to_pylist() == [written.input_ids.tolist() for written in rows]
    assert table["labels"].to_pylist() == [written.labels.tolist() for written in rows]


def test_no_rows_are_an_empty_table_of_the_same_schema():
    table = to_table([], np.empty(0, np.uint8))
    assert table.num_rows == 0
    assert table.schema.equals(ARROW_SCHEMA, check_metadata=True)


def test_tables_of_rows_with_and_without_answers_mix():
    first = to_table([row(0, stored_clip(0, 2))], np.zeros(2, np.uint8))
    second = to_table(
        [row(1, stored_clip(0, 2), stored_clip(2, 4)), row(2, stored_clip(2, 4))], np.zeros(4, np.uint8)
    )
    assert pa.concat_tables([first, second]).num_rows == 3


def test_the_metadata_is_in_the_notation_that_datasets_36_reads_too():
    info = json.loads(ARROW_SCHEMA.metadata[b"huggingface"])["info"]["features"]
    assert '"List"' not in json.dumps(info)
    assert '"Sequence"' not in json.dumps(info)
    assert info["input_ids"] == [{"dtype": "int32", "_type": "Value"}]
    assert info["codec_targets"] == [[{"dtype": "int16", "_type": "Value"}]]
    assert isinstance(info["messages"], list)
    assert Features.from_dict(info) == FEATURES


def test_datasets_reads_a_parquet_file_of_rows_with_the_features_and_the_audio(tmp_path):
    samples = np.arange(8, dtype="<i2")
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", *(b"RIFF", 52, b"WAVE", b"fmt ", 16, 1, 1, 16000), 32000, 2, 16, b"data", 16
    )
    wav = np.frombuffer(head + samples.tobytes(), np.uint8)
    file = tmp_path / "rows.parquet"
    pq.write_table(to_table([row(0, stored_clip(0, len(wav)))], wav), file)
    read = Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    assert read.features == FEATURES
    assert all(isinstance(read.features[name], Audio) for name in AUDIO_COLUMNS)
    plain = read.cast_column("audio", Audio(decode=False))
    assert plain[0]["audio"] == {"bytes": wav.tobytes(), "path": "a.wav"}


@MANY
@given(st.lists(st.none() | st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=6))
def test_codes_of_any_shape_go_in_and_come_out_null_where_there_are_none(shapes):
    codes = [
        None
        if shape is None
        else Codes(codec="mimi", values=np.arange(i, i + shape[0] * shape[1], dtype=np.int16).reshape(shape))
        for i, shape in enumerate(shapes)
    ]
    clip = Clip(name="a.wav", start=0, stop=4, sampling_rate=16000, num_samples=2)
    table = to_table(
        [row(i, clip, codes=row_codes) for i, row_codes in enumerate(codes)], np.zeros(4, np.uint8)
    )
    table.validate(full=True)
    assert table["codec"].to_pylist() == [row_codes and row_codes.codec for row_codes in codes]
    assert table["codec_targets"].to_pylist() == [
        row_codes and row_codes.values.tolist() for row_codes in codes
    ]
