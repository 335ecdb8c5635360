"""Index of a corpus' texts, where they are JSON arrays larger than memory: a memory-mapped Arrow file.

The file lies in datasets' cache and has a row a turn. The arrays are streamed once; the process that
plans, those that build, and all of them after a restart map the file. A record that can not be read
costs itself alone: it is a row that says so.
"""

import hashlib
import os
import re
import reprlib
from array import array
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets.utils import logging
from fsspec.core import url_to_fs

from speechrows import codec
from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import basename
from speechrows.corpora.entries import listing_digest
from speechrows.corpora.folder import Corpus
from speechrows.corpora.json_stream import Broken
from speechrows.corpora.json_stream import read_records
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.storage.cache import cached
from speechrows.types import Int16
from speechrows.types import Reason

_VERSION = "2"  # of the file's format, and of what is read from a JSON
_BATCH_ROWS, _BATCH_CODES = 8192, 4 << 20
_SCHEMA = pa.schema(
    [
        ("record", pa.int32()),
        ("id", pa.string()),
        ("speaker", pa.string()),
        ("text", pa.string()),
        ("speech", pa.string()),
        ("codes", pa.list_(pa.int16())),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("bad_codes", pa.string()),
        ("file", pa.string()),
        ("name_hash", pa.uint64()),
    ]
)

logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnRecord:
    """A turn as a JSON describes it; `reason` and `detail` are of its fault, where it has one.

    `codes` are int16 [F]; `bad_codes` says what was found in their place. Without a reason but
    with a detail, it is no turn: a part of `file` that could not be read.
    """

    id: str | None = None
    speaker: str | None = None
    text: str = ""
    speech: str | None = None
    codes: Int16 | None = None
    reason: Reason | None = None
    detail: str | None = None
    bad_codes: str | None = None
    file: str = ""


def parse_codes(value: Any, spec: codec.CodecSpec) -> tuple[Int16 | None, str | None]:
    """The codes of a turn, int16 [F], or what is wrong with them; neither where there are none."""
    if value is None:
        return None, None
    if not isinstance(value, list):
        return None, f"found {reprlib.repr(value)} as its units, expected a list of {spec.name} codes"
    wrong = codec.check([value], spec)
    return (None, wrong) if wrong else (np.array(value, np.int16), None)


ParseRecord = Callable[[Any], Sequence[TurnRecord]]  # a record's turns, one at least


class TextIndex:
    """The turns of a JSON array, by number and by the name of their clip."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as file:
            self._table = pa.ipc.open_file(file).read_all()  # maps, reads nothing
        record = self._table["record"].to_numpy()
        bounds = np.flatnonzero(np.diff(record, prepend=-1, append=-1)) if len(record) else np.zeros(1)
        self.bounds = bounds.astype(np.int64)  # record i is rows bounds[i]..bounds[i+1]
        self._hashes: tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]] | None = None

    @property
    def num_records(self) -> int:
        """How many records there are, those that could not be read among them."""
        return len(self.bounds) - 1

    @property
    def num_rows(self) -> int:
        """How many turns, of all records."""
        return self._table.num_rows

    def column(self, name: str) -> "pa.ChunkedArray[Any]":
        """A column of every turn."""
        return self._table[name]

    def turns(self, record: int) -> list[TurnRecord]:
        """The turns of a record."""
        start, stop = int(self.bounds[record]), int(self.bounds[record + 1])
        rows = self._table.slice(start, stop - start)
        codes = rows["codes"]  # not as Python's numbers: there are hundreds a turn
        names = [name for name in _SCHEMA.names if name not in ("record", "codes", "name_hash")]
        return [
            TurnRecord(
                **{**row, "reason": row["reason"] and Reason(row["reason"])},
                codes=None if codes[i].values is None else codes[i].values.to_numpy(),
            )
            for i, row in enumerate(rows.select(names).to_pylist())
        ]

    def rows_of(self, path: str) -> list[int]:
        """The rows of the turns whose clip a path is, as a rule one: they share its name and most folders."""
        if self._hashes is None:
            hashes = self._table["name_hash"].to_numpy()
            order = np.argsort(hashes, kind="stable")
            self._hashes = hashes[order], order
        hashes, order = self._hashes
        key = np.uint64(_hash(basename(path)))
        rows = order[np.searchsorted(hashes, key, "left") : np.searchsorted(hashes, key, "right")]
        speech = self._table["speech"]
        clips = [(int(row), speech[int(row)].as_py()) for row in rows]
        shared = {
            row: shared_parts(path, clip) for row, clip in clips if clip and basename(clip) == basename(path)
        }
        most = max(shared.values(), default=0)
        return sorted(row for row, parts in shared.items() if parts == most)

    def match(self, paths: Sequence[str]) -> npt.NDArray[np.int32]:
        """Which of `paths` is each turn's clip, int32 [num_rows]; -1 where none is."""
        matches, speech = np.full(self.num_rows, -1, np.int32), self.column("speech")
        for i, path in enumerate(paths):
            for row in self.rows_of(path):
                best, clip = int(matches[row]), str(speech[row])
                if best < 0 or shared_parts(path, clip) > shared_parts(paths[best], clip):
                    matches[row] = i
        return matches


def shared_parts(a: str, b: str) -> int:
    """How many of two paths' last parts are the same."""
    pairs = zip(reversed(a.split("/")), reversed(b.replace("\\", "/").split("/")), strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(a.count("/"), b.count("/")) + 1)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest())


def open_index(
    corpus: Corpus, files: Sequence[str], record_start: re.Pattern[bytes], parse_record: ParseRecord
) -> TextIndex:
    """The index of the JSON arrays in some files, one after the other; written if it is not cached.

    `record_start` is as for json_stream.read_records.

    Raises:
        UsageError: a file can not be read, or the cache not be written.
    """
    listing = listing_digest([_entry(corpus, file) for file in files])
    key = f"{_VERSION}\n{corpus.root}\n{listing}".encode(errors="surrogateescape")

    def write(path: Path) -> None:
        logger.warning(
            printable(f"{corpus.label}: reading the texts of {', '.join(files)} into the cache, once")
        )
        _write(path, _turns(corpus, files, record_start, parse_record))

    return cached(f"{hashlib.sha256(key).hexdigest()[:32]}.arrow", TextIndex, write)


def _entry(corpus: Corpus, file: str) -> Entry:
    """The file's line of the corpus' listing, without listing all of it."""
    try:
        local_path = corpus.local_path(file)
        if local_path is not None:
            stat = os.stat(local_path)
            return Entry(file, stat.st_size, str(stat.st_mtime_ns))
        store, path = url_to_fs(corpus.located[file] if corpus.located else corpus.address(file))
        return Entry(file, 0, store.ukey(path))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}; expected the corpus' JSON") from error


def _turns(
    corpus: Corpus, files: Sequence[str], record_start: re.Pattern[bytes], parse_record: ParseRecord
) -> Iterator[tuple[int, TurnRecord]]:
    """Every turn of some files, with the number of its record."""
    ids: set[int] = set()  # of hashes
    number = 0
    for path in files:
        with corpus.open_file(path) as file:
            for record in read_records(file, record_start):
                is_broken = isinstance(record, Broken)
                turns = [TurnRecord(detail=record.detail)] if is_broken else parse_record(record)
                yield from ((number, replace(turn, file=path)) for turn in _with_unique_id(turns, ids))
                number += 1


def _with_unique_id(turns: Sequence[TurnRecord], ids: set[int]) -> Sequence[TurnRecord]:
    """A record's turns, with a fault where an earlier record has its id."""
    name = turns[0].id
    if name is None:
        return turns
    if (key := _hash(name)) not in ids:
        ids.add(key)
        return turns
    detail = f"found the id {name!r:.80} a second time, expected each once"
    return [replace(turn, id=None, reason=Reason.METADATA_DISAGREES, detail=detail) for turn in turns]


def _write(path: Path, turns: Iterator[tuple[int, TurnRecord]]) -> None:
    batch: list[tuple[int, TurnRecord]] = []
    num_codes = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for number, turn in turns:
            batch.append((number, turn))
            num_codes += 0 if turn.codes is None else len(turn.codes)
            if len(batch) >= _BATCH_ROWS or num_codes >= _BATCH_CODES:
                writer.write_batch(_to_arrow(batch))
                batch, num_codes = [], 0
        if batch:
            writer.write_batch(_to_arrow(batch))


def _to_arrow(batch: Sequence[tuple[int, TurnRecord]]) -> pa.RecordBatch:
    turns = [turn for _, turn in batch]
    columns: dict[str, Any] = {
        name: pa.array([getattr(turn, name) for turn in turns], _SCHEMA.field(name).type)
        for name in _SCHEMA.names
        if name not in ("record", "codes", "name_hash")
    }
    offsets = array("i", [0])
    for turn in turns:
        offsets.append(offsets[-1] + (0 if turn.codes is None else len(turn.codes)))
    codes = [turn.codes for turn in turns if turn.codes is not None]
    columns["record"] = np.array([number for number, _ in batch], np.int32)
    columns["codes"] = pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()),
        pa.array(np.concatenate(codes) if codes else np.zeros(0, np.int16)),
        mask=pa.array([turn.codes is None for turn in turns]),
    )
    hashes = [_hash(basename(turn.speech)) if turn.speech else 0 for turn in turns]
    columns["name_hash"] = np.array(hashes, np.uint64)
    return pa.RecordBatch.from_pydict(columns, _SCHEMA)
