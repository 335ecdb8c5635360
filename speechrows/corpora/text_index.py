"""A corpus' texts, where they are one JSON array larger than memory: streamed once into an Arrow file.

The file lies in datasets' cache, a line a turn, and is memory-mapped by whoever looks a turn up:
the process that plans, those that build, and all of them again after a restart. A record that
breaks costs itself alone: it is kept as a line that says so, and reading goes on at the next.
"""

import hashlib
import os
from array import array
from collections.abc import Callable
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

from speechrows.corpora.folder import Corpus
from speechrows.corpora.folder import Entry
from speechrows.corpora.folder import basename
from speechrows.corpora.folder import listing_digest
from speechrows.corpora.json_stream import Broken
from speechrows.corpora.json_stream import read_records
from speechrows.errors import UsageError
from speechrows.storage.cache import cached
from speechrows.types import Int16
from speechrows.types import Reason

_VERSION = "1"  # of the file's format, and of what is read from a JSON
_BATCH_ROWS, _BATCH_UNITS = 8192, 4 << 20
_SCHEMA = pa.schema(
    [
        ("record", pa.int32()),
        ("id", pa.string()),
        ("speaker", pa.string()),
        ("text", pa.string()),
        ("speech", pa.string()),
        ("units", pa.list_(pa.int16())),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("bad_units", pa.string()),
        ("file", pa.string()),
        ("name_hash", pa.uint64()),
    ]
)

logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a JSON tells of a turn; `reason` and `detail` are of its fault, where it has one.

    `units` are int16 [F]; `bad_units` says what was found in their place. Without a reason but
    with a detail, it is no turn: a part of `file` that could not be read.
    """

    id: str | None = None
    speaker: str | None = None
    text: str = ""
    speech: str | None = None
    units: Int16 | None = None
    reason: Reason | None = None
    detail: str | None = None
    bad_units: str | None = None
    file: str = ""


Parse = Callable[[Any], Sequence[Told]]  # a record's turns, one at least


class TextIndex:
    """The turns of a JSON array, by number and by the name of their clip."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as file:
            self._table = pa.ipc.open_file(file).read_all()  # maps, reads nothing
        record = self._table["record"].to_numpy()
        bounds = (
            np.flatnonzero(np.diff(record, prepend=-1, append=-1)) if len(record) else np.zeros(1, np.intp)
        )
        self.bounds: npt.NDArray[np.int64] = bounds.astype(
            np.int64
        )  # record i is rows bounds[i]..bounds[i+1]
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

    def turns(self, record: int) -> list[Told]:
        """The turns of a record."""
        start, stop = int(self.bounds[record]), int(self.bounds[record + 1])
        rows = self._table.slice(start, stop - start)
        units = rows["units"]  # not as Python's numbers: there are hundreds a turn
        names = [name for name in _SCHEMA.names if name not in ("record", "units", "name_hash")]
        return [
            Told(
                **{**row, "reason": row["reason"] and Reason(row["reason"])},
                units=None if units[i].values is None else units[i].values.to_numpy(),
            )
            for i, row in enumerate(rows.select(names).to_pylist())
        ]

    def rows_of(self, path: str) -> list[int]:
        """The turns whose clip a path is, as a rule one: they name its last part, and most of the rest."""
        if self._hashes is None:
            hashes = self._table["name_hash"].to_numpy()
            order = np.argsort(hashes, kind="stable")
            self._hashes = hashes[order], order
        hashes, order = self._hashes
        name = np.uint64(_hash(basename(path)))
        found = order[np.searchsorted(hashes, name, "left") : np.searchsorted(hashes, name, "right")]
        speech = self._table["speech"]
        told = [(int(row), speech[int(row)].as_py()) for row in found]
        shared = {
            row: shared_parts(path, one) for row, one in told if one and basename(one) == basename(path)
        }
        return sorted(row for row, parts in shared.items() if parts == max(shared.values()))


def shared_parts(a: str, b: str) -> int:
    """How many of two paths' last parts are the same."""
    pairs = zip(reversed(a.split("/")), reversed(b.replace("\\", "/").split("/")), strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(a.count("/"), b.count("/")) + 1)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest())


def open_index(corpus: Corpus, files: Sequence[str], parse: Parse) -> TextIndex:
    """The index of the JSON arrays in some files, one after the other; made when there is none yet.

    Raises:
        UsageError: a file can not be read, or the cache not be written.
    """
    told = f"{_VERSION}\n{corpus.root}\n{listing_digest([_entry(corpus, file) for file in files])}"
    digest = hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()

    def write(path: Path) -> None:
        logger.warning(f"{corpus.label}: reading the texts of {', '.join(files)} into the cache, once")
        _make(corpus, files, parse, path)

    return cached(f"{digest[:32]}.arrow", TextIndex, write)


def _entry(corpus: Corpus, file: str) -> Entry:
    """The file's line of the corpus' listing, without listing all of it."""
    try:
        place = corpus.local_path(file)
        if place is not None:
            stat = os.stat(place)
            return Entry(file, stat.st_size, str(stat.st_mtime_ns))
        store, path = url_to_fs(corpus.located[file] if corpus.located else corpus.address(file))
        return Entry(file, 0, store.ukey(path))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}; expected the corpus' JSON") from error


def _make(corpus: Corpus, files: Sequence[str], parse: Parse, path: Path) -> None:
    held: list[tuple[int, Told]] = []
    num_units, number, ids = 0, 0, set[int]()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for file in files:
            with corpus.open_file(file) as opened:
                for record in read_records(opened):
                    for told in _once(_told(record, parse), ids):
                        held.append((number, replace(told, file=file)))
                        num_units += 0 if told.units is None else len(told.units)
                    number += 1
                    if len(held) >= _BATCH_ROWS or num_units >= _BATCH_UNITS:
                        writer.write_batch(_batch(held))
                        held, num_units = [], 0
        if held:
            writer.write_batch(_batch(held))


def _told(record: Any, parse: Parse) -> Sequence[Told]:
    return [Told(detail=record.detail)] if isinstance(record, Broken) else parse(record)


def _once(turns: Sequence[Told], ids: set[int]) -> Sequence[Told]:
    """A record's turns, with a fault where another record has its id."""
    told = turns[0].id
    if told is None:
        return turns
    if (key := _hash(told)) not in ids:
        ids.add(key)
        return turns
    detail = f"found the id {told!r:.80} a second time, expected each once"
    return [replace(one, id=None, reason=Reason.METADATA_DISAGREES, detail=detail) for one in turns]


def _batch(held: Sequence[tuple[int, Told]]) -> pa.RecordBatch:
    columns: dict[str, Any] = {
        name: pa.array([getattr(told, name) for _, told in held], _SCHEMA.field(name).type)
        for name in _SCHEMA.names
        if name not in ("record", "units", "name_hash")
    }
    offsets = array("i", [0])
    for _, told in held:
        offsets.append(offsets[-1] + (0 if told.units is None else len(told.units)))
    parts = [told.units for _, told in held if told.units is not None]
    columns["record"] = np.array([number for number, _ in held], np.int32)
    columns["units"] = pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()),
        pa.array(np.concatenate(parts) if parts else np.zeros(0, np.int16)),
        mask=pa.array([told.units is None for _, told in held]),
    )
    hashes = [_hash(basename(told.speech)) if told.speech else 0 for _, told in held]
    columns["name_hash"] = np.array(hashes, np.uint64)
    return pa.RecordBatch.from_pydict(columns, _SCHEMA)
