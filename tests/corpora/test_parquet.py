"""What parquet.py promises of cells: they are the same, whatever Arrow holds them in."""

import io
import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.corpora.cells import clip_cells
from speechrows.corpora.cells import holds_clips
from speechrows.corpora.folder import Corpus
from speechrows.corpora.parquet import class_name
from speechrows.corpora.parquet import class_names
from speechrows.corpora.parquet import is_list_of_lists
from speechrows.corpora.parquet import numbers
from speechrows.corpora.parquet import read_batches
from speechrows.corpora.parquet import repeats
from speechrows.corpora.parquet import values

IDS = st.one_of(st.none(), st.sampled_from(["", "a", "b", "c", "d\0"]))


@MANY
@given(st.lists(st.lists(IDS, max_size=5), min_size=1, max_size=4))
def test_of_every_id_all_rows_but_the_first_repeat_it(files):
    seen: set[str] = set()
    expected: list[list[int]] = []
    for ids in files:
        expected.append([])
        for row, name in enumerate(ids):
            if name and name in seen:
                expected[-1].append(row)
            seen.add(name or "")
    assert repeats([pa.chunked_array([pa.array(ids, pa.string())]) for ids in files]) == expected


def test_ids_may_be_numbers_bad_text_or_nothing():
    assert repeats([pa.chunked_array([[7, 8]]), pa.chunked_array([[8, 8, None]])]) == [[], [0, 1]]
    bad = pa.array([b"\xff", b"\xfe", b"\xff"]).view(pa.string())
    assert repeats([pa.chunked_array([bad])]) == [[2]]
    assert repeats([pa.chunked_array([pa.nulls(2)]), pa.chunked_array([], pa.null())]) == [[], []]
    assert repeats([]) == []


@MANY
@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.one_of(st.none(), st.binary(max_size=5)), st.text(max_size=3)))
    ),
    st.integers(0, 3),
    st.sampled_from([pa.binary(), pa.large_binary()]),
)
def test_clips_are_the_bytes_of_their_cells_in_any_slice(clips, start, kind):
    structs = [None if clip is None else dict(zip(("bytes", "path"), clip, strict=True)) for clip in clips]
    column = pa.array(structs, pa.struct([("bytes", kind), ("path", pa.string())]))
    read = [(clip.data and bytes(clip.data), clip.path) for clip in clip_cells(column.slice(start))]
    expected = [clip or (None, None) for clip in clips][start:]
    assert read == [(data and bytes(data), path) for data, path in expected]
    plain = pa.array([clip and clip[0] for clip in clips], kind)
    assert [clip.data is None for clip in clip_cells(plain)] == [
        not clip or clip[0] is None for clip in clips
    ]


DECODED = pa.struct([("path", pa.string()), ("array", pa.list_(pa.float64())), ("sampling_rate", pa.int64())])


def test_decoded_clips_become_wav_of_their_exact_samples():
    exact, finer = np.array([0, 1, -32768, 32767]) / 32768, np.float32([0.1, -0.3])
    column = pa.array(
        [
            None,
            {"path": "a.wav", "array": exact.tolist(), "sampling_rate": 16_000},
            {"path": None, "array": finer.tolist(), "sampling_rate": 8_000},
            {"path": "b", "array": None, "sampling_rate": 8_000},
            {"path": "c", "array": [0.0], "sampling_rate": None},
        ],
        DECODED,
    )
    assert holds_clips(DECODED)
    nothing, pcm, floats, *without = clip_cells(column)
    assert [clip.data for clip in (nothing, *without)] == [None] * 3
    assert (pcm.path, len(pcm.data)) == ("a.wav", 44 + 8)  # 16 bits hold these
    for clip, samples, rate in ((pcm, exact, 16_000), (floats, finer, 8_000)):
        read, read_rate = soundfile.read(io.BytesIO(clip.data))
        assert (read.tolist(), read_rate) == (samples.tolist(), rate)


def test_decoded_clips_may_have_channels_or_integers():
    stereo = [{"array": [[0.5] * 9, [-0.5] * 9], "sampling_rate": 8_000}]
    (clip,) = clip_cells(pa.array(stereo))
    assert soundfile.read(io.BytesIO(clip.data))[0].tolist() == [[0.5, -0.5]] * 9
    (clip,) = clip_cells(pa.array([{"array": [1, -32768], "sampling_rate": 8_000}]))
    assert soundfile.read(io.BytesIO(clip.data), dtype="int16")[0].tolist() == [1, -32768]
    assert not holds_clips(pa.struct([("array", pa.list_(pa.string())), ("sampling_rate", pa.int64())]))


def test_a_column_of_nulls_has_no_clips():
    assert [clip.data for clip in clip_cells(pa.nulls(2))] == [None, None]
    assert [clip.data for clip in clip_cells(pa.nulls(2, pa.binary()))] == [None, None]


def test_bytes_that_are_no_utf_8_are_spelled_or_become_lone_surrogates():
    bad = pa.array([b"caf\xe9", None, "é".encode()], pa.binary()).view(pa.string())
    assert values(bad) == ["caf\\xe9", None, "é"]
    assert values(bad, "surrogateescape") == ["caf\udce9", None, "é"]
    nested = pa.ListArray.from_arrays([0, 1, 1, 3], bad)
    assert values(nested, "surrogateescape") == ["\udcff", [], [None, "é"]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((pa.list_(pa.list_(pa.int8())), True), (pa.large_list(pa.list_(pa.int64(), 8)), True)),
        *((pa.list_(pa.list_(pa.null())), True), (pa.list_(pa.list_(pa.float32())), False)),
        *((pa.list_(pa.int64()), False), (pa.list_(pa.list_(pa.list_(pa.int8()))), False)),
        *((pa.string(), False), (pa.null(), False)),
    ],
)
def test_lists_of_lists_are_known_by_what_is_in_them(kind, expected):
    assert is_list_of_lists(kind, "integer", "null") == expected


def test_words_are_no_numbers():
    assert numbers(pa.chunked_array([[1.5, None]])) == [1.5, None]
    assert numbers(pa.chunked_array([["slow"]])) == []


def test_names_of_classes_stand_in_the_metadata_of_datasets():
    features = {
        "words": [{"dtype": "string", "_type": "Value"}],  # as datasets 3 writes a list
        **{"emotion": {"names": ["joy", "anger"], "_type": "ClassLabel"}, "text": {"_type": "Value"}},
    }
    text = json.dumps({"info": {"features": features}})
    schema = pa.schema([("emotion", pa.int64())], metadata={"huggingface": text})
    assert class_names(schema) == {"emotion": ["joy", "anger"]}


@pytest.mark.parametrize(
    "text",
    [
        *(None, "{", "[]", '{"info": null}', '{"info": {"features": {"a": 1}}}'),
        '{"info": {"features": {"emotion": {"names": null, "_type": "ClassLabel"}}}}',
        '{"info": {"features": {"emotion": {"names": {"0": "joy"}, "_type": "ClassLabel"}}}}',
    ],
)
def test_metadata_of_another_kind_names_no_classes(text):
    metadata = None if text is None else {"huggingface": text}
    assert class_names(pa.schema([("emotion", pa.int64())], metadata=metadata)) == {}


def test_a_number_without_a_class_stays_a_number():
    assert [class_name(value, ["joy", "anger"]) for value in (0, 1, 2, -1, None, "sad")] == [
        *("joy", "anger", 2, None, None, "sad"),
    ]


def test_the_thread_that_reads_ahead_ends_with_its_reader(tmp_path: Path):
    pq.write_table(pa.table({"n": range(1000)}), tmp_path / "n.parquet", row_group_size=10)
    before = threading.active_count()
    batches = read_batches(Corpus.open(str(tmp_path)), "n.parquet", lambda schema: schema.names)
    first, _ = next(batches)
    assert threading.active_count() == before + 1
    assert [first, *(at for at, _ in batches)] == list(range(0, 1000, 10))
    assert threading.active_count() == before
    batches = read_batches(Corpus.open(str(tmp_path)), "n.parquet", lambda schema: schema.names)
    next(batches)
    batches.close()
    assert threading.active_count() == before
