"""The row's columns: one FEATURES for every config of every builder, so that any of them mix."""

import json
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Audio
from datasets import Features
from datasets import Value

from speechrows.types import TRAITS
from speechrows.types import Clip
from speechrows.types import Codes
from speechrows.types import Row

# Lists are plain lists: the one notation that datasets 3.6 and 5.2 both read.
FEATURES = Features(
    {
        "row_id": Value("string"),
        "task": Value("string"),
        "clip_id": Value("string"),
        "conversation_id": Value("string"),
        "turn_number": Value("int32"),
        "num_turns": Value("int32"),
        "speaker": Value("string"),
        "role": Value("string"),
        "audio": Audio(),
        "sampling_rate": Value("int32"),
        "num_samples": Value("int64"),
        "transcript": Value("string"),
        "messages": [{"role": Value("string"), "content": Value("string")}],
        "text": Value("string"),
        "input_ids": [Value("int32")],
        "labels": [Value("int32")],
        "num_tokens": Value("int32"),
        "conversation_tokens": Value("int32"),
        "codec": Value("string"),
        "codec_targets": [[Value("int16")]],
        "target_audio": Audio(),
        "emotion": Value("string"),
        "gender": Value("string"),
        "age": Value("string"),
        "volume": Value("string"),
        "pace": Value("string"),
        "accent": Value("string"),
        "domain": Value("string"),
        "source": Value("string"),
        "system": Value("string"),
        "start_s": Value("float64"),
    }
)
LATER_COLUMNS = frozenset({"system", "start_s"})  # that folders of earlier versions lack: null there
AUDIO_COLUMNS = ("audio", "target_audio")


def _old_notation(feature: Any) -> Any:
    """The JSON of a feature in the notation of datasets 3.6: `List` becomes a plain list."""
    if isinstance(feature, dict):
        if feature.get("_type") in ("List", "Sequence"):
            return [_old_notation(feature["feature"])]
        return {key: _old_notation(value) for key, value in feature.items()}
    return feature


# As a card has them.
FEATURES_YAML: list[dict[str, Any]] = FEATURES._to_yaml_list()  # pyright: ignore[reportPrivateUsage]


def features_json() -> dict[str, Any]:
    """FEATURES as JSON that every version of datasets from 3.6 on reads."""
    return _old_notation(FEATURES.to_dict())


def _arrow_schema() -> pa.Schema:
    info = {"info": {"features": features_json()}}
    return FEATURES.arrow_schema.with_metadata({"huggingface": json.dumps(info)})


ARROW_SCHEMA = _arrow_schema()


def to_table(rows: Sequence[Row], buffer: npt.NDArray[np.uint8]) -> pa.Table:
    """Rows whose clips lie in `buffer` as one table of ARROW_SCHEMA, columns built in bulk.

    The audio column is the buffer itself, not a copy, where the clips of the rows follow one
    another in it; the table is then valid as long as the buffer is not written to.
    """
    make: dict[str, Callable[[pa.DataType], pa.Array[Any]]] = {
        "audio": lambda _: _audio([row.clip for row in rows], buffer),
        "target_audio": lambda _: _audio([row.target_clip for row in rows], buffer),
        "input_ids": lambda kind: _lists([row.input_ids for row in rows], kind),
        "labels": lambda kind: _lists([row.labels for row in rows], kind),
        "messages": lambda kind: pa.array([_messages(row) for row in rows], kind),
        "sampling_rate": lambda kind: pa.array([row.clip and row.clip.sampling_rate for row in rows], kind),
        "num_samples": lambda kind: pa.array([row.clip and row.clip.num_samples for row in rows], kind),
    }
    for trait in TRAITS:
        make[trait] = lambda kind, name=trait: pa.array([getattr(row.traits, name) for row in rows], kind)
    make["codec"] = lambda kind: pa.array([row.codes and row.codes.codec for row in rows], kind)
    make["codec_targets"] = lambda kind: _codes([row.codes for row in rows], kind)

    def column(field: "pa.Field[Any]") -> "pa.Array[Any]":
        if field.name in make:
            return make[field.name](field.type)
        return pa.array([getattr(row, field.name) for row in rows], field.type)

    return pa.Table.from_arrays([column(field) for field in ARROW_SCHEMA], schema=ARROW_SCHEMA)


def _messages(row: Row) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in row.messages]


def _lists(arrays: Sequence[npt.NDArray[Any]], kind: pa.DataType) -> "pa.Array[Any]":
    offsets = np.zeros(len(arrays) + 1, np.int32)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    values = np.concatenate(arrays) if arrays else np.empty(0, np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values), type=kind)


def _codes(codes: Sequence[Codes | None], kind: pa.DataType) -> "pa.Array[Any]":
    """Lists [K] of lists [F] in bulk; null where a row has none."""
    values = [row_codes.values for row_codes in codes if row_codes is not None]
    if not values:
        return pa.array([None] * len(codes), kind)
    lists = _lists([codebook for row_values in values for codebook in row_values], pa.list_(pa.int16()))
    ends = np.cumsum([0 if row_codes is None else len(row_codes.values) for row_codes in codes])
    starts = pa.array([0, *ends.tolist()], pa.int32())
    mask = pa.array([row_codes is None for row_codes in codes])
    return pa.ListArray.from_arrays(starts, lists, mask=mask).cast(kind)


def _audio(clips: Sequence[Clip | None], buffer: npt.NDArray[np.uint8]) -> "pa.Array[Any]":
    kind = ARROW_SCHEMA.field("audio").type
    present = [clip for clip in clips if clip is not None]
    if not present:
        return pa.array([None] * len(clips), kind)
    has_clip = np.array([clip is not None for clip in clips])
    starts = np.array([clip.start for clip in present], np.int32)
    stops = np.array([clip.stop for clip in present], np.int32)
    sizes = np.zeros(len(clips), np.int32)
    sizes[has_clip] = stops - starts
    follow = (starts[1:] == stops[:-1]).all()
    data = buffer if follow else np.concatenate([buffer[clip.start : clip.stop] for clip in present])
    first = starts[0] if follow else 0
    offsets = np.append(first, first + np.cumsum(sizes, dtype=np.int32)).astype(np.int32)
    values = pa.BinaryArray.from_buffers(
        pa.binary(), len(clips), [None, pa.py_buffer(offsets.data), pa.py_buffer(data.data)]
    )
    names = pa.array([clip and clip.name for clip in clips], pa.string())
    mask = None if has_clip.all() else pa.array(~has_clip)
    return pa.StructArray.from_arrays([values, names], fields=list(kind), mask=mask)
