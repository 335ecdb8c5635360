"""Joins sidecars (what `speechrows generate` made of a corpus' clips) to turns by clip_id.

In memory are only hashes of the clip_ids, and a few decoded row groups: a build meets clips in nearly
the order in which `generate` wrote them.
"""

import bisect
import hashlib
import itertools
import os
from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from speechrows.errors import UsageError
from speechrows.sidecar.columns import COLUMN_OF
from speechrows.sidecar.columns import VALUES
from speechrows.sidecar.columns import as_values
from speechrows.sidecar.columns import how_to_make
from speechrows.sidecar.columns import kinds_for
from speechrows.sidecar.columns import read_recipe
from speechrows.sidecar.columns import satisfies
from speechrows.sidecar.heard_traits import TraitLimits
from speechrows.storage.filesystem import check_link
from speechrows.storage.filesystem import is_local
from speechrows.storage.filesystem import locate
from speechrows.storage.parquet_file import open_parquet
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Int16
from speechrows.types import Task
from speechrows.types import Traits
from speechrows.types import Turn

__all__ = ["GeneratedColumns", "how_to_make", "kinds_for", "satisfies"]

_CACHE_BYTES = 64 << 20  # of decoded row groups


class _File(NamedTuple):
    """A parquet file of a sidecar, and the hashes of its clip_ids, int64 [rows]."""

    fs: Any
    path: str
    recipe: Mapping[str, Any]
    group_starts: Sequence[int]  # rows before each row group
    hashes: npt.NDArray[np.int64]


class _Cell(NamedTuple):
    """Where a clip's value is: file, row group, row of the group."""

    file: _File
    group: int
    row: int


class _Lookup:
    """From clip_id to cell, over all files of one kind."""

    def __init__(self, files: Sequence[_File]) -> None:
        self._files = [file._replace(hashes=np.empty(0, np.int64)) for file in files]
        hashes = np.concatenate([file.hashes for file in files])
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._rows = order.astype(np.uint32) if len(order) < 1 << 32 else order
        self._starts = np.cumsum([0, *(len(file.hashes) for file in files)])

    def candidates(self, clip_id: str) -> Iterator[_Cell]:
        """Cells whose clip_id has the hash of this one: one as a rule, but hashes may collide."""
        key = hash(clip_id)
        at = int(np.searchsorted(self._hashes, key))
        while at < len(self._hashes) and self._hashes[at] == key:
            yield self._cell(at)
            at += 1

    def twins(self) -> Iterator[tuple[_Cell, _Cell]]:
        """Pairs of cells with one hash: the same clip twice, as good as always."""
        for at in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]).tolist():
            yield self._cell(at), self._cell(at + 1)

    def _cell(self, at: int) -> _Cell:
        row = int(self._rows[at])
        number = int(np.searchsorted(self._starts, row, "right")) - 1
        file, row = self._files[number], row - int(self._starts[number])
        group = bisect.bisect_right(file.group_starts, row) - 1
        return _Cell(file, group, row - file.group_starts[group])


class GeneratedColumns:
    """Sidecars of any kinds, open for joining.

    Pickled, it is a list of folders that another process opens anew: hashes of strings differ from
    process to process.
    """

    def __init__(self, addresses: Sequence[str], codec: str | None = None) -> None:
        """Use `GeneratedColumns.open`."""
        self._addresses, self._codec = tuple(map(str, addresses)), codec
        opened = [[*_open_files(address, codec)] for address in self._addresses]
        self._files = [file for files in opened for file in files]
        self._limits = {file.path: limits for files in opened for file, limits in _with_limits(files)}
        self._cache: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._cache_bytes = 0
        kinds = {file.recipe["kind"] for file in self._files}
        self._lookups = {
            kind: _Lookup([file for file in self._files if file.recipe["kind"] == kind]) for kind in kinds
        }
        for lookup in self._lookups.values():
            self._refuse_twins(lookup)

    def __reduce__(self) -> tuple[Any, ...]:
        return GeneratedColumns, (self._addresses, self._codec)

    @staticmethod
    def open(places: Sequence[str], codec: str | None = None) -> "GeneratedColumns":
        """Open local folders or files, fsspec addresses, or Hub datasets `org/name`; none at all is fine.

        `codec` is that of codes and units that a person made elsewhere.

        Raises:
            UsageError: a file is broken, or holds no such columns, or a clip has two values of one kind.
        """
        return GeneratedColumns(places, codec)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds that are open: keys of COLUMN_OF."""
        return frozenset(self._lookups)

    def digest(self) -> str:
        """SHA-256 of the files' bytes, wherever they lie."""
        digests = [hashlib.sha256(file.fs.cat_file(file.path)).hexdigest() for file in self._files]
        return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()

    def attach(self, dialogue: Dialogue, task: Task) -> Dialogue:
        """Return the dialogue with the values of its turns that a task uses, and with their traits.

        What a turn has of its own stays; a clip without a value gets none.
        """
        if "traits" in self._lookups:
            turns = [
                replace(turn, traits=self.traits(dialogue.clip_id(turn), turn.traits))
                for turn in dialogue.turns
            ]
            dialogue = replace(dialogue, turns=tuple(turns))
        kind = next((kind for kind in kinds_for(task) if kind in self._lookups), None)
        if kind is None:
            return dialogue
        join = self._with_answer if COLUMN_OF[kind] == "answer" else self._with_codes
        turns = tuple(join(turn, kind, dialogue.clip_id(turn)) for turn in dialogue.turns)
        return replace(dialogue, turns=turns)

    def answer(self, kind: str, clip_id: str) -> tuple[str | None, bool]:
        """The answer to a clip, or None, and whether it is cut."""
        cell = self._find(kind, clip_id)
        if cell is None:
            return None, False
        group = self._group(cell)
        return group["answer"][cell.row].as_py(), bool(group["is_cut"][cell.row].as_py())

    def traits(self, clip_id: str, own: Traits) -> Traits:
        """The traits of a clip: its own, and where it has none, those that its sound tells."""
        cell = self._find("traits", clip_id) if "traits" in self._lookups else None
        if cell is None:
            return own
        group = self._group(cell)
        rate, db = (group[name][cell.row].as_py() for name in ("speaking_rate", "relative_db"))
        return self._limits[cell.file.path].complete(own, rate, db)

    def _with_answer(self, turn: Turn, kind: str, clip_id: str) -> Turn:
        answer, is_cut = self.answer(kind, clip_id) if turn.answer is None else (None, False)
        return turn if answer is None else replace(turn, answer=answer, answer_is_cut=is_cut)

    def _with_codes(self, turn: Turn, kind: str, clip_id: str) -> Turn:
        codes = self.codes(kind, clip_id) if turn.codes is None else None
        return turn if codes is None else replace(turn, codes=codes)

    def codes(self, kind: str, clip_id: str) -> Codes | None:
        """The codes or units of a clip, or None.

        Raises:
            UsageError: they are no table of int16.
        """
        cell = self._find(kind, clip_id)
        scalar = None if cell is None else self._group(cell)[COLUMN_OF[kind]][cell.row]
        if cell is None or scalar is None or not scalar.is_valid:
            return None
        values = _values(scalar.values)
        if values is None:
            raise UsageError(
                f"{cell.file.path}: {clip_id}: found {COLUMN_OF[kind]} that are no table of whole numbers "
                "under 32 768; make them anew with `speechrows generate --overwrite`"
            )
        return Codes(codec=cell.file.recipe["codec"], values=values)

    def _find(self, kind: str, clip_id: str) -> _Cell | None:
        for cell in self._lookups[kind].candidates(clip_id):
            if self._clip_id(cell) == clip_id:
                return cell
        return None

    def _clip_id(self, cell: _Cell) -> str:
        return self._group(cell)["clip_id"][cell.row].as_py()

    def _group(self, cell: _Cell) -> pa.Table:
        """The decoded row group of a cell; those used last are cached."""
        file, key = cell.file, (cell.file.path, cell.group)
        if key not in self._cache:
            kind = file.recipe["kind"]
            names = ["clip_id", *(name for name, _ in VALUES[COLUMN_OF[kind]])]
            try:
                with open_parquet(file.fs, file.path) as table:
                    group = table.read_row_group(cell.group, names, use_threads=False)
                    self._cache[key] = as_values(kind, group)
            except (pa.ArrowException, OSError) as error:
                raise _broken(file.path, error) from error
            self._cache_bytes += self._cache[key].nbytes
        while self._cache_bytes > _CACHE_BYTES and len(self._cache) > 1:
            self._cache_bytes -= self._cache.popitem(last=False)[1].nbytes
        self._cache.move_to_end(key)
        return self._cache[key]

    def _refuse_twins(self, lookup: _Lookup) -> None:
        for first, second in lookup.twins():
            clip_id = self._clip_id(first)
            if clip_id == self._clip_id(second):
                raise UsageError(
                    f"{clip_id}: found a value of {first.file.recipe['kind']} in {first.file.path} and in "
                    f"{second.file.path}; expected one. Leave one of their folders out"
                )


def _values(array: "pa.Array[Any]") -> Int16 | None:
    """Codes or units as int16 [K, F]; None where they are no table of int16."""
    num_codebooks = 1
    if isinstance(array, pa.ListArray):
        num_codebooks = len(array)
        if array.null_count or len(set(array.value_lengths().to_pylist())) > 1:
            return None
        array = array.flatten()
    if array.null_count:
        return None
    flat = array.to_numpy(zero_copy_only=False)
    if len(flat) and not -(1 << 15) <= flat.min() <= flat.max() < 1 << 15:
        return None
    return flat.astype(np.int16).reshape(num_codebooks, -1)


def _with_limits(files: Sequence[_File]) -> Iterator[tuple[_File, TraitLimits]]:
    """The files of traits of a sidecar, each with the limits of pace and volume of them all."""
    files = [file for file in files if file.recipe["kind"] == "traits"]
    columns = list[pa.Table]()
    for file in files:
        with open_parquet(file.fs, file.path) as table:
            columns.append(table.read(["speaking_rate", "relative_db"], use_threads=False))
    if columns:
        limits = TraitLimits.of(
            *(pa.concat_tables(columns)[name].to_numpy() for name in columns[0].schema.names)
        )
        yield from ((file, limits) for file in files)


def _open_files(address: str, codec: str | None) -> Iterator[_File]:
    """The parquet files of a sidecar, in order; or the one that an address names."""
    expected = "expected a folder that `speechrows generate` wrote, or parquet of clip_id and its values"
    try:
        fs, root = locate(address)
        paths = sorted(path for path in fs.find(root) if path.endswith(".parquet"))
    except (UsageError, OSError) as error:
        raise UsageError(f"--with {error}; {expected}") from error
    if not paths:
        raise UsageError(f"--with {address}: found no parquet there; {expected}")
    for path in paths:
        if is_local(fs) and path != root:
            check_link(root, os.path.relpath(path, root), f"--with {address}")
        try:
            with open_parquet(fs, path) as table:
                recipe = read_recipe(path, table.schema_arrow, codec)
                ids = table.read(["clip_id"], use_threads=False)["clip_id"].to_pylist()
                counts = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _broken(path, error) from error
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        yield _File(fs, path, recipe, [0, *itertools.accumulate(counts[:-1])], hashes)


def _broken(path: str, error: Exception) -> UsageError:
    return UsageError(
        f"{path}: found {error}; expected parquet. Delete it and run the same `speechrows generate` again: "
        "it makes what is missing"
    )
