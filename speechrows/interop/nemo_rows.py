"""NeMo reads shards of rows as they are: an `input_cfg` that names them is all that is written."""

from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

from speechrows.conversations.records import Record
from speechrows.errors import UsageError
from speechrows.folder.rows_folder import RowsFolder
from speechrows.interop.engine import Format
from speechrows.interop.input_cfg import ROWS_ROOT
from speechrows.interop.input_cfg import write_input_cfg
from speechrows.interop.options import NemoOptions
from speechrows.interop.parts import Part
from speechrows.interop.parts import chosen_config
from speechrows.interop.summary import Tally
from speechrows.rows.tasks import TASKS


def rows_format(folder: str, options: NemoOptions) -> Format:
    """How `<split>.yaml` over a folder's shards is written: a row a conversation, its clip and transcript.

    Raises:
        UsageError: the folder is not on this machine, or has rows whose answer is not their transcript.
    """
    rows = RowsFolder.open(folder)
    if not rows.is_local:
        raise UsageError(
            f"{folder}: lies elsewhere, and NeMo reads shards of this machine; expected a folder here. "
            "Download it, or give --form conversations"
        )
    config = chosen_config(rows, options.config)
    tasks = {path.split("/")[1] for paths in rows.configs()[config].values() for path in paths}
    others = sorted(task for task in tasks if not _is_transcribed(task))
    if others:
        raise UsageError(
            f"{folder}: {config} has rows of {', '.join(others)}, whose answers lie in messages, where NeMo "
            "does not look; expected rows of ttt or transcription. Give another --config, or --form "
            "conversations"
        )
    return Format(
        name="nemo", write=_count, finish=_finish, columns=("num_samples", "sampling_rate", "system")
    )


def _is_transcribed(task: str) -> bool:
    """Whether what the assistant writes is what is said in the clip."""
    return TASKS[task].pairing == "turn" and TASKS[task].needs is None


def _count(_part: Part, records: Iterator[Record], _into: Path) -> Tally:
    """Nothing is written of a part: NeMo takes each row for a conversation."""
    tally = Tally()
    for row in records:
        if row["num_samples"] is None:
            tally.changes["rows left out: no clip"] += 1
            continue
        tally.count(1, row["num_samples"] / row["sampling_rate"])
        tally.changes["system prompts not told"] += row["system"] is not None
    return tally


def _finish(out: Path, parts: Sequence[Part]) -> None:
    """Write the input_cfg of each split."""
    shards = dict[str, dict[str, None]]()
    for part in parts:
        shards.setdefault(part.split, {}).update(dict.fromkeys(piece.shard.path for piece in part.pieces))
    for split, paths in shards.items():
        manifests = [f"{ROWS_ROOT}/{path}" for path in paths]
        entry = {"type": "parquet", "manifest_filepath": manifests, "text_field": "transcript"}
        write_input_cfg(out, split, {"type": "lhotse_as_conversation", "input_cfg": [entry]})
