"""Search rows by name or by what is said, and sample their traits.

Names are a column of the index, read to its end: a quarter of a million takes some tenths of a second.
Words and traits are columns of the shards, read row group by row group and never longer than
`seconds`: the result says how far it came, and the search goes on from there when asked.
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
_BEFORE, _AFTER = 60, 140  # characters around a match


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A row that has the text looked for: the match, and the text around it."""

    row: int
    row_id: str
    before: str
    match: str
    after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Hits:
    """The results of a search: `next_row` is where it goes on, None where every row was searched."""

    text: str
    hits: tuple[Hit, ...]
    searched: int
    next_row: int | None


def by_name(library: Library, view: View, name: str) -> list[int]:
    """Find rows by the name of a row, clip or conversation: exact matches, else all that contain it."""
    containing: list[tuple[int, str]] = []
    for first, names in _names(library, view):
        offsets = np.flatnonzero(pc.match_substring(names, name).to_numpy(zero_copy_only=False))
        containing += [(first + offset, names[offset].as_py()) for offset in offsets.tolist()]
    exact = [row for row, row_id in containing if f"/{name.strip('/')}/" in f"/{row_id}/"]
    return exact or [row for row, _ in containing]


def _names(library: Library, view: View) -> Iterator[tuple[int, Any]]:
    """Yield the ids of a view's rows in batches, each with the number of its first row."""
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
    """Return the first row of each of a view's row groups, from that of `row` on, wrapping around."""
    groups = view.index.group_starts
    inside = groups[(np.append(groups[1:], len(view.index)) > view.start) & (groups < view.stop)]
    return np.roll(inside, 1 - int(np.searchsorted(inside, row, "right")))


def read_groups(
    library: Library, view: View, groups: Int64, columns: Sequence[str]
) -> Iterator[tuple[int, pa.Table]]:
    """Yield columns of the view's rows in these row groups, each with the number of its first row."""
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
    """Find rows where `text` is said or answered, in any case, from a row group on, wrapping around.

    A search that goes on gives its first row as `stop_row`: where it ends.
    """
    groups = groups_from(view, from_row)
    if stop_row is not None:
        last = np.flatnonzero(groups == groups_from(view, stop_row)[0])
        groups = groups[: int(last[0])] if len(last) and last[0] else groups
    hits: list[Hit] = []
    searched, deadline = 0, time.monotonic() + seconds
    for count, (first, table) in enumerate(read_groups(library, view, groups, _TEXT_COLUMNS), 1):
        hits += _hits(table, first, text)
        searched += len(table)
        if count < len(groups) and (len(hits) >= MAX_HITS or time.monotonic() > deadline):
            next_row = int(groups[count])
            return Hits(text=text, hits=tuple(hits), searched=searched, next_row=next_row)
    return Hits(text=text, hits=tuple(hits), searched=searched, next_row=None)


_TEXT_COLUMNS = ("row_id", "transcript", "messages")


def _hits(table: pa.Table, first: int, text: str) -> Iterator[Hit]:
    contents = pc.struct_field(pc.list_flatten(table["messages"]), "content")
    parents = pc.list_parent_indices(table["messages"])
    in_transcript = pc.match_substring(table["transcript"], text, ignore_case=True).to_numpy()
    in_message = pc.match_substring(contents, text, ignore_case=True).to_numpy()
    offsets = np.union1d(np.flatnonzero(in_transcript), parents.to_numpy()[in_message])
    for offset in offsets.tolist():
        row = table.slice(offset, 1).to_pylist()[0]
        texts = [row["transcript"], *(message["content"] for message in row["messages"])]
        whole = next((candidate for candidate in texts if text.lower() in candidate.lower()), texts[0])
        at = max(whole.lower().find(text.lower()), 0)
        end = at + len(text)
        yield Hit(
            row=first + offset,
            row_id=row["row_id"],
            before=("…" if at > _BEFORE else "") + whole[max(at - _BEFORE, 0) : at],
            match=whole[at:end],
            after=whole[end : end + _AFTER] + ("…" if len(whole) > end + _AFTER else ""),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TraitCounts:
    """How often each trait has which value, with an example; None counts as unknown."""

    counts: Mapping[str, list[tuple[str | None, int, int]]]  # value, number of rows, a row that has it
    sampled: int
    total: int


def traits(library: Library, view: View, *, seconds: float = SECONDS) -> TraitCounts:
    """Count the traits of all rows, or of a random sample of row groups that can be read in time."""
    groups = np.random.default_rng(0).permutation(groups_from(view, view.start))
    names = (*TRAITS, "domain")
    counts = {name: Counter[str | None]() for name in names}
    examples = {name: dict[str | None, int]() for name in names}
    sampled, deadline = 0, time.monotonic() + seconds
    for first, table in read_groups(library, view, groups, names):
        sampled += len(table)
        for name in names:
            values = table[name].to_pylist()
            counts[name].update(values)
            rows = enumerate(values, first)
            examples[name] |= {value: row for row, value in reversed(list(rows))}
        if time.monotonic() > deadline:
            break
    tables = {
        name: [(value, count, examples[name][value]) for value, count in counts[name].most_common(24)]
        for name in names
    }
    return TraitCounts(counts=tables, sampled=sampled, total=view.stop - view.start)
