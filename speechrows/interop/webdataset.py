"""Rows as webdataset reads them: `<split>-%06d.tar` of samples, the members of one key a row.

`<key>.<wav|flac|opus|mp3>` is the clip, as stored, `<key>.json` the row but for its clips, `<key>.txt` what
the assistant says, `<key>.target.<…>` the speech of that, where there is one.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from speechrows.conversations.records import Record
from speechrows.interop import engine
from speechrows.interop.options import WebDatasetOptions
from speechrows.interop.parts import Part
from speechrows.interop.summary import Tally
from speechrows.interop.tar import new_tar
from speechrows.rows.schema import AUDIO_COLUMNS

_MAX_ROWS = 100_000  # of a shard, as webdataset's own writer has it


def export(folder: str, out: Path, options: WebDatasetOptions) -> list[str]:
    """Write `<split>-%06d.tar`; lines that say what was written.

    Raises:
        UsageError: there is no such config, or the folder `out` has other files.
    """
    max_bytes = options.shard_mb << 20
    fmt = engine.Format(name="webdataset", write=write, max_bytes=max_bytes, max_rows=_MAX_ROWS)
    return engine.export(folder, out, options, fmt)


def write(part: Part, records: Iterator[Record], into: Path) -> Tally:
    """Write the shard of a part."""
    tally, last = Tally(), None
    with new_tar(into / f"{part.name}.tar") as shard:
        for record in records:
            key = part.name_of(record["row"])
            clip, target = record["audio"], record["target_audio"]
            if clip is not None:
                shard.add(f"{key}.{clip.extension}", clip.data)  # first: readers take the first for the row's
            shard.add(f"{key}.json", _fields(record))
            shard.add(f"{key}.txt", record["messages"][1]["content"].encode())
            if target is not None:
                shard.add(f"{key}.target.{target.extension}", target.data)
            conversation = record["task"], record["conversation_id"]
            tally.conversations += conversation != last
            tally.turns += 1
            tally.seconds += (record["num_samples"] or 0) / (record["sampling_rate"] or 1)
            last = conversation
    return tally


def _fields(record: Record) -> bytes:
    fields = {name: value for name, value in record.items() if name not in (*AUDIO_COLUMNS, "row")}
    return json.dumps(fields, ensure_ascii=False).encode()
