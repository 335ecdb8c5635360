"""The columns of an index, checked before anything in it is believed."""

import pyarrow as pa

# An index's lines have these columns of their rows, and: padded_tokens (of input_ids), row_group and
# shard (path), audio_offset and audio_length (of the clip's bytes in the shard).
INDEX_COLUMNS = (
    "row_id", "conversation_id", "turn_number", "num_turns", "num_tokens",
    "conversation_tokens", "sampling_rate", "num_samples",
)  # fmt: skip
WITHOUT_SOUND = {"num_samples": 0, "sampling_rate": 1}  # of a row that has none: 0 seconds
_COLUMNS = {
    "row_id": pa.string(),
    "conversation_id": pa.string(),
    "turn_number": pa.int32(),
    "num_turns": pa.int32(),
    "num_tokens": pa.int32(),
    "conversation_tokens": pa.int32(),
    "sampling_rate": pa.int32(),
    "num_samples": pa.int64(),
    "padded_tokens": pa.int32(),
    "row_group": pa.int32(),
    "audio_length": pa.int64(),
    "audio_offset": pa.int64(),
    "shard": pa.dictionary(pa.int32(), pa.string()),
}


def check_columns(schema: pa.Schema) -> None:
    """Raise ValueError where an index has not the columns that builds write."""
    for name, kind in _COLUMNS.items():
        kinds = [field.type for field in schema if field.name == name]
        if kinds != [kind]:
            words = " and ".join(map(str, kinds)) or "none"
            raise ValueError(f"the column {name} of {words}, expected one of {kind}")


def check_whole(lines: pa.Table | pa.RecordBatch) -> None:
    """Raise ValueError where a line of an index lacks something."""
    for name, column in zip(lines.schema.names, lines.columns, strict=True):
        if column.null_count:
            raise ValueError(f"{column.null_count} lines without {name}, expected it in each")
