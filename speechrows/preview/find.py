"""Where to look: a row or a conversation by its name, words in what is said, and traits by sampling.

Names are a column of the index, read to its end: a quarter of a million takes some tenths of a second.
Words and traits are columns of the shards, read row group by row group and never longer than
`seconds`: what was read in that time is told, and the search goes on from there when asked.
"""

import time
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from speechrows.folder.layout import index_path
from speechrows.preview.rows import Int64
from speechrows.preview.rows import Library
from speechrows.preview.rows import View
from speechrows.types import TRAITS

SECONDS = 3.0
MAX_HITS = 40
_BEFORE, _AFTER = 60, 140  # characters around what was found


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A row with the text looked for: what stands before it, itself, and what follows."""

    row: int
    row_id: str
    before: str
    match: str
    after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Hits:
    """What a search found. `next_row` is where it goes on; None where every row was looked at."""

    text: str
    hits: tuple[Hit, ...]
    searched: int
    next_row: int | None


def by_name(library: Library, view: View, name: str) -> list[int]:
    """Rows by the name of a row, clip or conversation: those of that very name, else all that contain it."""
    containing: list[tuple[int, str]] = []
    for first, names in _names(library, view):
        places = np.flatnonzero(pc.match_substring(names, name).to_numpy(zero_copy_only=False))
        containing += [(first + place, names[place].as_py()) for place in places.tolist()]
    exact = [row for row, row_id in containing if f"/{name.strip('/')}/" in f"/{row_id}/"]
    return exact or [row for row, _ in containing]


def _names(library: Library, view: View) -> Iterator[tuple[int, Any]]:
    """The ids of a view's rows, with the number of the first."""
    shards = view.index.shards
    row, config_shards = 0, pa.array([shard.path for shard in shards])
    for task in view.index.facts:
        with library.folder.open_parquet(index_path(task, view.index.split)) as index:
            for batch in index.iter_batches(1 << 17, columns=["row_id", "shard"], use_threads=False):
                paths: Any = batch["shard"]
                names: Any = batch.filter(pc.is_in(paths.cast(pa.string()), config_shards))["row_id"]
                start, stop = max(view.start - row, 0), min(view.stop - row, len(names))
                if start < stop:
                    yield row + start, names[start:stop]
                row += len(names)


def groups_from(view: View, row: int) -> Int64:
    """The first rows of a view's row groups, from that of `row` on, and around to the one before it."""
    groups = view.index.group_starts
    inside = groups[(np.append(groups[1:], len(view.index)) > view.start) & (groups < view.stop)]
    return np.roll(inside, 1 - int(np.searchsorted(inside, row, "right")))


def read_groups(
    library: Library, view: View, groups: Int64, columns: Sequence[str]
) -> Iterator[tuple[int, pa.Table]]:
    """Columns of the view's rows in these row groups, with the number of the first row."""
    index = view.index
    for first in groups.tolist():
        path, group = index.shards[int(index.shard[first])].path, int(index.row_group[first])
        table = library.read_group(path, group, columns)
        start = max(view.start - first, 0)
        yield first + start, table[start : view.stop - first]


def by_words(
    library: Library,
    view: View,
    text: str,
    from_row: int,
    *,
    seconds: float = SECONDS,
    stop_row: int | None = None,
) -> Hits:
    """Rows where `text` is said or answered, in any case of letters, from a row group on and around.

    A search that goes on gives its first row as `stop_row`: where it ends.
    """
    groups = groups_from(view, from_row)
    if stop_row is not None:
        last = np.flatnonzero(groups == groups_from(view, stop_row)[0])
        groups = groups[: int(last[0])] if len(last) and last[0] else groups
    found: list[Hit] = []
    searched, deadline = 0, time.monotonic() + seconds
    for count, (first, table) in enumerate(read_groups(library, view, groups, _SAID), 1):
        found += _hits(table, first, text)
        searched += len(table)
        if count < len(groups) and (len(found) >= MAX_HITS or time.monotonic() > deadline):
            next_row = int(groups[count])
            return Hits(text=text, hits=tuple(found), searched=searched, next_row=next_row)
    return Hits(text=text, hits=tuple(found), searched=searched, next_row=None)


_SAID = ("row_id", "transcript", "messages")


def _hits(table: pa.Table, first: int, text: str) -> Iterator[Hit]:
    contents = pc.struct_field(pc.list_flatten(table["messages"]), "content")
    parents = pc.list_parent_indices(table["messages"])
    said = pc.match_substring(table["transcript"], text, ignore_case=True).to_numpy()
    answered = pc.match_substring(contents, text, ignore_case=True).to_numpy()
    places = np.union1d(np.flatnonzero(said), parents.to_numpy()[answered])
    for place in places.tolist():
        row = table.slice(place, 1).to_pylist()[0]
        texts = [row["transcript"], *(message["content"] for message in row["messages"])]
        whole = next((one for one in texts if text.lower() in one.lower()), texts[0])
        at = max(whole.lower().find(text.lower()), 0)
        end = at + len(text)
        yield Hit(
            row=first + place,
            row_id=row["row_id"],
            before=("…" if at > _BEFORE else "") + whole[max(at - _BEFORE, 0) : at],
            match=whole[at:end],
            after=whole[end : end + _AFTER] + ("…" if len(whole) > end + _AFTER else ""),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """How often each trait has which value, with a row of each; None counts as unknown."""

    counts: Mapping[str, list[tuple[str | None, int, int]]]  # value, rows, one of them
    sampled: int
    total: int


def traits(library: Library, view: View, *, seconds: float = SECONDS) -> Traits:
    """The traits of all rows, or of as many row groups, spread over the files, as can be read in time."""
    groups = np.random.default_rng(0).permutation(groups_from(view, view.start))
    names = (*TRAITS, "domain")
    counts = {name: Counter[str | None]() for name in names}
    one = {name: dict[str | None, int]() for name in names}
    sampled, deadline = 0, time.monotonic() + seconds
    for first, table in read_groups(library, view, groups, names):
        sampled += len(table)
        for name in names:
            values = table[name].to_pylist()
            counts[name].update(values)
            one[name] |= {value: first + place for place, value in reversed(list(enumerate(values)))}
        if time.monotonic() > deadline:
            break
    tables = {name: [(v, n, one[name][v]) for v, n in counts[name].most_common(24)] for name in names}
    return Traits(counts=tables, sampled=sampled, total=view.stop - view.start)
