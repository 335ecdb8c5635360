"""One row in the terminal, with its label mask."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.errors import printable
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.shards import check_shard
from speechrows.text import tokenizers
from speechrows.text.audio_token import audio_token
from speechrows.text.audio_token import audio_token_id
from speechrows.types import IGNORE_INDEX

_MOST_IDS = 10_000  # that are compared with one that is not there: a second

_GREEN, _DIM, _PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"


def find_row(folder: RowsFolder, row_id: str | None) -> Mapping[str, Any]:
    """A row by its id, the folder's first without one; reads the one row group it lies in.

    Raises:
        UsageError: there is no such row.
    """
    near = ""
    for task, split in folder.splits():
        index = folder.index(task, split, ["row_id", "shard", "row_group"]).to_pydict()
        ids: list[str] = index["row_id"]
        if row_id is not None and row_id not in ids:
            near = near or _near(row_id, ids)
            continue
        at = 0 if row_id is None else ids.index(row_id)
        if not ids:
            continue
        path = index["shard"][at]
        with folder.naming(path):
            check_shard(folder, {shard.path: shard for shard in folder.index_facts(task, split).shards}[path])
            with folder.open_parquet(path) as shard:
                table = shard.read_row_group(index["row_group"][at], use_threads=False)
            return table.slice(table["row_id"].to_pylist().index(ids[at]), 1).to_pylist()[0]
    raise UsageError(
        f"{folder.address}: no row {row_id!r}; expected an id such as `speechrows show FOLDER` prints{near}"
    )


def _near(row_id: str, ids: Sequence[str]) -> str:
    """The id that a person may have meant: one that holds what was given, else a similar one of the first."""
    holding = next((known for known in ids if row_id in known), None)
    return f"; did you mean {holding}?" if holding else did_you_mean(row_id, ids[:_MOST_IDS])


def to_text(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, *, colour: bool) -> str:
    """A row, column by column, then its tokens: supervised ones in green, or in ⟦ ⟧ without colour."""
    lines: list[str] = []
    for name, value in row.items():
        if name not in ("input_ids", "labels") and value is not None:
            lines.append(f"{name:<20} {printable(_cell(name, value)):.300}")
    supervised = sum(label != IGNORE_INDEX for label in row["labels"])
    lines.append(f"{'tokens':<20} {len(row['input_ids'])}, of which {supervised} take loss:")
    lines.append("".join(_mask(row, tokenizer, colour=colour)))
    return "\n".join(lines)


def _cell(name: str, value: Any) -> str:
    if name in ("audio", "target_audio"):
        return f"{value['path']}, {len(value['bytes'] or b''):,} bytes"
    if name == "codec_targets":
        return f"[{len(value)}, {len(value[0])}], the first codebook {value[0]}"
    if name == "messages":
        return "  ".join(f"{message['role']}: {message['content']!r}" for message in value)
    return str(value)


def _mask(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, *, colour: bool) -> Iterator[str]:
    audio, audio_id = audio_token(tokenizer), audio_token_id(tokenizer)

    def kind(place: int) -> str:
        if place >= row["num_tokens"]:
            return "pad"
        if row["labels"][place] != IGNORE_INDEX:
            return "supervised"
        return "audio" if row["input_ids"][place] == audio_id else "masked"

    for what, places in groupby(range(len(row["input_ids"])), kind):
        ids = [row["input_ids"][place] for place in places]
        text = f"[{audio} × {len(ids)}]" if what == "audio" else printable(tokenizer.decode(ids))
        if what == "pad":
            text = f"[pad × {len(ids)}]"
        if what == "supervised":
            yield f"{_GREEN}{text}{_PLAIN}" if colour else f"⟦{text}⟧"
        else:
            yield f"{_DIM}{text}{_PLAIN}" if colour else text


def show(address: str, row_id: str | None = None, *, colour: bool = False) -> str:
    """The text of a row of a built folder, or of a Hub dataset `org/name`."""
    folder = RowsFolder.open(address)
    tokenizer = tokenizers.open_tokenizer(folder.tokenizer_folder())
    return to_text(find_row(folder, row_id), tokenizer, colour=colour)
