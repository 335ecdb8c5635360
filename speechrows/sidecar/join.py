"""Generated columns: what `speechrows generate` made of a corpus' clips, joined to its turns by clip_id.

Nothing but the clip_ids is held in memory, as hashes: a build meets clips in nearly the order in
which `generate` wrote them, so a few row groups at a time suffice.
"""

import bisect
import hashlib
import itertools
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
from speechrows.sidecar.columns import how_to_make
from speechrows.sidecar.columns import kinds_for
from speechrows.sidecar.columns import read_recipe
from speechrows.sidecar.columns import satisfies
from speechrows.storage.filesystem import locate
from speechrows.storage.parquet_file import open_parquet
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Int16
from speechrows.types import Task
from speechrows.types import Turn

__all__ = ["GeneratedColumns", "how_to_make", "kinds_for", "satisfies"]

_HELD_BYTES = 64 << 20  # of decoded row groups


class _Part(NamedTuple):
    """A parquet file of generated columns, and the hashes of its clip_ids."""

    fs: Any
    path: str
    recipe: Mapping[str, Any]
    group_starts: Sequence[int]  # rows before each row group
    hashes: npt.NDArray[np.int64]


class _Place(NamedTuple):
    """Where a clip's value stands."""

    part: _Part
    group: int
    row: int


class _Column:
    """All parts of one kind: where each clip_id stands in them."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = [part._replace(hashes=np.empty(0, np.int64)) for part in parts]
        hashes = np.concatenate([part.hashes for part in parts])
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._rows = order.astype(np.uint32) if len(order) < 1 << 32 else order
        self._starts = np.cumsum([0, *(len(part.hashes) for part in parts)])

    def places(self, clip_id: str) -> Iterator[_Place]:
        """Where a clip may stand: in one place as a rule, for its hash may be another's too."""
        key = hash(clip_id)
        at = int(np.searchsorted(self._hashes, key))
        while at < len(self._hashes) and self._hashes[at] == key:
            yield self._place(at)
            at += 1

    def twins(self) -> Iterator[tuple[_Place, _Place]]:
        """Pairs of places with one hash: the same clip twice, as good as always."""
        for at in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]).tolist():
            yield self._place(at), self._place(at + 1)

    def _place(self, at: int) -> _Place:
        row = int(self._rows[at])
        number = int(np.searchsorted(self._starts, row, "right")) - 1
        part, row = self._parts[number], row - int(self._starts[number])
        group = bisect.bisect_right(part.group_starts, row) - 1
        return _Place(part, group, row - part.group_starts[group])


class GeneratedColumns:
    """Generated columns of any kinds, open for joining.

    Pickled, it is a list of folders that another process opens anew: hashes of strings are a
    process' own.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        """Use `GeneratedColumns.open`."""
        self._addresses = tuple(map(str, addresses))
        self._parts = [part for address in self._addresses for part in _open_parts(address)]
        self._held: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._held_bytes = 0
        kinds = {part.recipe["kind"] for part in self._parts}
        self._columns = {
            kind: _Column([part for part in self._parts if part.recipe["kind"] == kind]) for kind in kinds
        }
        for column in self._columns.values():
            self._refuse_twins(column)

    def __reduce__(self) -> tuple[Any, ...]:
        return GeneratedColumns, (self._addresses,)

    @staticmethod
    def open(dirs: Sequence[str]) -> "GeneratedColumns":
        """Open folders, here, at fsspec addresses, or Hub datasets `org/name`. No folders are fine too.

        Raises:
            UsageError: a folder that `generate` did not write, or that is broken, or a clip that
                has two values of one kind.
        """
        return GeneratedColumns(dirs)

    @property
    def kinds(self) -> frozenset[str]:
        """What is there: keys of COLUMN_OF."""
        return frozenset(self._columns)

    def digest(self) -> str:
        """A digest of all that may be joined: of the files' bytes, wherever they lie."""
        digests = [hashlib.sha256(part.fs.cat_file(part.path)).hexdigest() for part in self._parts]
        return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()

    def attach(self, dialogue: Dialogue, task: Task) -> Dialogue:
        """The dialogue with what was generated for its turns, as far as a task uses it.

        What a turn has of its own stays. A clip that got no value gets none here.
        """
        kind = next((kind for kind in kinds_for(task) if kind in self._columns), None)
        if kind is None:
            return dialogue
        join = self._with_answer if COLUMN_OF[kind] == "answer" else self._with_codes
        turns = tuple(join(turn, kind, dialogue.clip_id(turn)) for turn in dialogue.turns)
        return replace(dialogue, turns=turns)

    def answer(self, kind: str, clip_id: str) -> tuple[str | None, bool]:
        """The answer to a clip, and whether it is cut; None where there is none."""
        place = self._find(kind, clip_id)
        if place is None:
            return None, False
        cells = self._group(place)
        return cells["answer"][place.row].as_py(), bool(cells["is_cut"][place.row].as_py())

    def _with_answer(self, turn: Turn, kind: str, clip_id: str) -> Turn:
        answer, is_cut = self.answer(kind, clip_id) if turn.answer is None else (None, False)
        return turn if answer is None else replace(turn, answer=answer, answer_is_cut=is_cut)

    def _with_codes(self, turn: Turn, kind: str, clip_id: str) -> Turn:
        place = self._find(kind, clip_id) if turn.codes is None else None
        cell = None if place is None else self._group(place)[COLUMN_OF[kind]][place.row]
        if place is None or cell is None or not cell.is_valid:
            return turn
        values = _values(cell.values)
        if values is None:
            raise UsageError(
                f"{place.part.path}: {clip_id}: found {COLUMN_OF[kind]} that are no table of whole numbers "
                "under 32 768; make them anew with `speechrows generate --overwrite`"
            )
        return replace(turn, codes=Codes(codec=place.part.recipe["codec"], values=values))

    def _find(self, kind: str, clip_id: str) -> _Place | None:
        for place in self._columns[kind].places(clip_id):
            if self._group(place)["clip_id"][place.row].as_py() == clip_id:
                return place
        return None

    def _group(self, place: _Place) -> pa.Table:
        """A decoded row group: those that were used last are kept."""
        part, key = place.part, (place.part.path, place.group)
        if key not in self._held:
            names = ["clip_id", *(name for name, _ in VALUES[COLUMN_OF[part.recipe["kind"]]])]
            try:
                with open_parquet(part.fs, part.path) as table:
                    self._held[key] = table.read_row_group(place.group, names, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise _broken(part.path, error) from error
            self._held_bytes += self._held[key].nbytes
        while self._held_bytes > _HELD_BYTES and len(self._held) > 1:
            self._held_bytes -= self._held.popitem(last=False)[1].nbytes
        self._held.move_to_end(key)
        return self._held[key]

    def _refuse_twins(self, column: _Column) -> None:
        for one, other in column.twins():
            clip_id, theirs = (self._group(place)["clip_id"][place.row].as_py() for place in (one, other))
            if clip_id == theirs:
                raise UsageError(
                    f"{clip_id}: found a value of {one.part.recipe['kind']} in {one.part.path} and in "
                    f"{other.part.path}; expected one. Leave one of their folders out"
                )


def _values(cell: "pa.Array[Any]") -> Int16 | None:
    """Codes or units as int16 [K, F]; None where they are none."""
    num_codebooks = 1
    if isinstance(cell, pa.ListArray):
        num_codebooks = len(cell)
        if cell.null_count or len(set(cell.value_lengths().to_pylist())) > 1:
            return None
        cell = cell.flatten()
    if cell.null_count:
        return None
    flat = cell.to_numpy(zero_copy_only=False)
    if len(flat) and not -(1 << 15) <= flat.min() <= flat.max() < 1 << 15:
        return None
    return flat.astype(np.int16).reshape(num_codebooks, -1)


def _open_parts(address: str) -> Iterator[_Part]:
    """The parts of a folder, in order."""
    fs, root = locate(address)
    try:
        paths = sorted(path for path in fs.find(root) if path.endswith(".parquet"))
    except OSError as error:
        raise UsageError(f"--with {address}: {error}; expected a folder or a Hub dataset") from error
    if not paths:
        raise UsageError(
            f"--with {address}: found no parquet there; expected a folder that `speechrows generate` wrote"
        )
    for path in paths:
        try:
            with open_parquet(fs, path) as table:
                recipe = read_recipe(path, table.schema_arrow)
                ids = table.read(["clip_id"], use_threads=False)["clip_id"].to_pylist()
                counts = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
        except (pa.ArrowException, OSError) as error:
            raise _broken(path, error) from error
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        yield _Part(fs, path, recipe, [0, *itertools.accumulate(counts[:-1])], hashes)


def _broken(path: str, error: Exception) -> UsageError:
    return UsageError(
        f"{path}: found {error}; expected parquet. Delete it and run the same `speechrows generate` again: "
        "it makes what is missing"
    )
