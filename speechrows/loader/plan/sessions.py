"""Sessions of mode `lanes`: conversations of one source chained, so that a state goes on through them."""

from dataclasses import dataclass
from dataclasses import replace
from itertools import pairwise

import numpy as np

from speechrows.errors import UsageError
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import expanded
from speechrows.loader.plan.order import stable_argsort
from speechrows.loader.plan.segments import ConcatenatedRows
from speechrows.loader.plan.segments import Segments
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.types import Int32


@dataclass(frozen=True, kw_only=True, slots=True)
class Sessions:
    """Segments in the order of their sessions; session i has those from edges[i] up to edges[i + 1]."""

    segments: Segments
    edges: Int64


def chain(rows: PlanRows, segments: Segments, options: PlanOptions) -> Sessions:
    """Chain segments of one source, as they were drawn, into sessions of at most `session_tokens` with pads.

    A longer segment is a session of its own. With windows, a session has segments of one. Sessions come in
    the order of their first segments. Without `session_tokens` each segment is a session.

    Raises:
        UsageError: the rows have no `sources`.
    """
    count = len(segments.firsts)
    if options.session_tokens is None or not count:
        return Sessions(segments=segments, edges=np.arange(count + 1))
    if rows.sources is None:
        raise UsageError("session_tokens: found rows without sources, expected those of an index")
    keys = rows.sources[segments.firsts].astype(np.int64)
    if segments.windows is not None:
        keys += segments.windows.astype(np.int64) * (int(keys.max()) + 1)
    order = stable_argsort(keys)
    begins = _begins(keys[order], segments.slots[order], options.session_tokens)
    counts = np.diff(begins, append=np.int32(count))
    by_first = np.argsort(order[begins])
    order = order[expanded(begins[by_first], counts[by_first])]
    windows = segments.windows
    return Sessions(
        segments=replace(
            segments,
            firsts=segments.firsts[order],
            counts=segments.counts[order],
            slots=segments.slots[order],
            windows=None if windows is None else windows[order],
        ),
        edges=np.append(0, np.cumsum(counts[by_first], dtype=np.int64)),
    )


def _begins(keys: Int64, slots: Int32, most_slots: int) -> Int32:
    """Where sessions begin among segments [N] in the order of their keys: as many as fit, of one key."""
    before = np.append(0, np.cumsum(slots, dtype=np.int64))
    changes = np.flatnonzero(np.diff(keys)) + 1
    firsts = list[int]()
    for of_key, end in pairwise([0, *changes.tolist(), len(keys)]):
        first = of_key
        while first < end:
            firsts.append(first)
            fitting = int(np.searchsorted(before, before[first] + most_slots, side="right")) - 1
            first = min(max(fitting, first + 1), end)
    return np.array(firsts, np.int32)


def edges_of(sessions: Sessions, concatenated: ConcatenatedRows, num_slots: int) -> tuple[Int64, Int64]:
    """The places in `rows` where sessions begin, and the end; and the rows whose pads need room in a step.

    These are the last rows of segments that their session goes on after: were their pads cut off, the next
    session would not begin on a boundary. Where they can have no room, since the row fills a step of
    `num_slots`, the session ends.
    """
    edges = concatenated.edges.astype(np.int64)
    begins = np.zeros(len(edges), bool)
    begins[sessions.edges] = True
    inner = np.flatnonzero(~begins)
    slots = concatenated.before[edges[inner]] - concatenated.before[edges[inner] - 1]
    begins[inner] = slots > num_slots
    return edges[begins], edges[~begins] - 1
