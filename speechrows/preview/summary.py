"""All rows at a glance: sums, distributions, and what became of the corpus' items."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from speechrows.card.bins import Bins
from speechrows.card.bins import number
from speechrows.card.bins import ticks
from speechrows.folder.layout import SKIPPED
from speechrows.folder.placeholders import Placeholders
from speechrows.folder.scores import describe
from speechrows.folder.scores import scores_of
from speechrows.preview import find
from speechrows.preview.html import duration
from speechrows.preview.html import render
from speechrows.preview.rows import Library
from speechrows.preview.rows import View
from speechrows.preview.sound import clip_url
from speechrows.rows.ledger import LedgerSummary

_EXTREMES = 4
_WORST = 40  # rows that screening found, at once
MAX_LINES = 200  # of skipped.jsonl, at once


def seconds_of(view: View) -> npt.NDArray[np.float64]:
    """Return the length of each clip of a view, in seconds [R]."""
    rows = slice(view.start, view.stop)
    return view.index.num_samples[rows] / view.index.sampling_rate[rows]


def head(library: Library, view: View) -> str:
    """Render the name of the dataset, and the numbers to see first."""
    seconds, rows = seconds_of(view), slice(view.start, view.stop)
    tokens, padded = view.index.num_tokens[rows], view.index.padded_tokens[rows]
    ledger = _ledger(view)
    lost, left_out = ledger.skipped.total(), ledger.left_out.total()
    middle = float(np.median(seconds)) if len(seconds) else 0.0
    pads = 1 - int(tokens.sum()) / max(int(padded.sum()), 1)
    conversations = len(view.conversations)
    rules = ", ".join(ledger.left_out).replace("_", " ") or "no rule met"
    items = f"of {ledger.items:,} items" + ("" if lost else ": none is lost")
    facts = [
        ("rows", f"{len(seconds):,}", f"in {conversations:,} conversation{'s' * (conversations != 1)}", ""),
        ("sound", duration(float(seconds.sum())), f"{duration(middle)} a clip, as a median", ""),
        ("tokens", f"{int(tokens.sum()):,}", f"{_mean(tokens):,.0f} a row, and {pads:.0%} pads", ""),
        ("skipped by a fault", f"{lost:,}", items, "bad" if lost else "good"),
        ("left out by a rule", f"{left_out:,}", rules, ""),
    ]
    address = library.folder.address.rstrip("/")
    is_hub = "/" in address and not library.folder.is_local
    name = address if is_hub else address.rpartition("/")[2]
    return render("head.html", name=name, address=address, facts=facts)


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A bar of a histogram: the number of rows, and an example."""

    count: int
    row: int | None
    title: str


def histogram(values: npt.NDArray[Any], rows: npt.NDArray[np.int64], unit: str, bins: Bins) -> list[Bar]:
    """Count rows by a value."""
    places = bins.places(values)
    counts = np.bincount(places, minlength=bins.count)
    filled, first = np.unique(places, return_index=True)
    examples = dict(zip(filled.tolist(), rows[first].tolist(), strict=True))
    is_whole = values.dtype.kind in "iu"
    return [
        Bar(count=count, row=examples.get(i), title=f"{_span(bins, i, is_whole)} {unit}: {count:,}")
        for i, count in enumerate(counts.tolist())
    ]


def _span(bins: Bins, place: int, is_whole: bool) -> str:
    low, high = bins.edge(place), bins.edge(place + 1)
    if bins.is_open and place == bins.count - 1:
        return f"{number(low)} or more"
    return number(low) if bins.is_single else f"{number(low)} to {number(high - is_whole)}"


def numbers(library: Library, view: View) -> str:
    """Render the distributions, each bar of which opens a row; the extremes; the traits."""
    rows = np.arange(view.start, view.stop)
    seconds, starts = seconds_of(view), view.conversations
    turns = np.diff(np.append(starts, view.stop))
    tokens = view.index.num_tokens[rows]
    charts = [
        _chart("Length of a clip", "s", seconds, rows, "clips"),
        _chart("Tokens of a row", "tokens", tokens, rows, "rows"),
        _chart("Rows of a conversation", "rows", turns, starts, "conversations"),
        _chart("Text tokens to a second", "tokens a second", pace(view), rows, "rows"),
    ]
    ends = [
        ("Longest clips", seconds, -1, "s"),
        ("Shortest clips", seconds, 1, "s"),
        ("Most text for its length", pace(view), -1, "tokens a second"),
        ("Least text for its length", pace(view), 1, "tokens a second"),
    ]
    extremes = [(title, _extreme(view, values, sign, unit)) for title, values, sign, unit in ends]
    return render(
        "numbers.html",
        charts=charts,
        worst=worst(library, view),
        extremes=extremes,
        traits=find.traits(library, view),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Bad:
    """A row that was screened: how bad it is, from 0 to 1, why, and the address of its clip, if any."""

    row: int
    row_id: str
    badness: float
    why: str
    url: str | None


def worst(library: Library, view: View) -> list[Bad] | None:
    """The worst rows of a view by `speechrows screen`, the worst first; None where it was not screened."""
    scores = scores_of(library.folder, view.index)
    if scores is None:
        return None
    badness = np.nan_to_num(scores["badness"].to_numpy()[view.start : view.stop])
    rows = np.argsort(-badness, kind="stable")[:_WORST]
    rows = rows[badness[rows] > 0] + view.start
    lines = [scores.slice(row, 1).to_pylist()[0] for row in rows.tolist()]
    return [
        Bad(
            row=row,
            row_id=line["row_id"],
            badness=line["badness"],
            why=describe(line),
            url=clip_url(view, row) if view.index.audio_length[row] else None,
        )
        for row, line in zip(rows.tolist(), lines, strict=True)
    ]


def pace(view: View) -> npt.NDArray[np.float64]:
    """Return text tokens to a second of audio, [R]: too many or too few where text and clip differ."""
    rows, index = slice(view.start, view.stop), view.index
    text = index.num_tokens[rows] - Placeholders.of(index).count(rows)
    return text / np.maximum(seconds_of(view), 1e-3)


def _chart(
    title: str, unit: str, values: npt.NDArray[Any], rows: npt.NDArray[np.int64], what: str
) -> dict[str, Any]:
    bins = Bins.of(values)
    bars = histogram(values, rows, unit, bins)
    middle = f"{_short(float(np.median(values)))} {unit}"
    return {
        **{"title": title, "unit": unit, "what": what, "middle": middle, "bars": bars},
        "ticks": ticks(max(bar.count for bar in bars)),
        "labels": {100 * (i + bins.is_single / 2) / bins.count: text for i, text in bins.labels().items()},
    }


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _extreme(view: View, values: npt.NDArray[Any], sign: int, unit: str) -> list[tuple[int, str, str]]:
    """Return the rows with the smallest values (the largest, where `sign` is -1): number, id, value."""
    count = min(_EXTREMES, len(values))
    if not count:
        return []
    extremes = np.argpartition(sign * values, count - 1)[:count]
    extremes = extremes[np.argsort(sign * values[extremes], kind="stable")]
    rows = (extremes + view.start).tolist()
    ids = view.index.row_ids(rows)
    texts = [f"{_short(value)} {unit}" for value in values[extremes].tolist()]
    return list(zip(rows, ids, texts, strict=True))


def _ledger(view: View) -> LedgerSummary:
    """Sum the ledgers of a view's tasks; the splits of a task share one."""
    tasks = [view.task] if view.task else list(view.index.facts)
    return sum((view.index.facts[task].ledger for task in tasks), LedgerSummary())


def reasons(view: View) -> list[str]:
    """Return the reasons for which items of a view's tasks were skipped, the commonest first."""
    return [reason for reason, _ in _ledger(view).skipped.most_common()]


def ledger(library: Library, view: View, reason: str | None = None) -> str:
    """Render what became of the items: rows, skipped by a fault, left out by a rule; list the faults."""
    tasks = {view.task} if view.task else set(view.index.facts)
    lines = list(islice(_skipped(library, tasks, reason), MAX_LINES + 1))
    sums = _ledger(view)
    return render(
        "ledger.html",
        sums=sums,
        lines=lines[:MAX_LINES],
        has_more=len(lines) > MAX_LINES,
        reason=reason,
        file=SKIPPED,
    )


def _skipped(library: Library, tasks: set[str], reason: str | None) -> Iterator[dict[str, Any]]:
    """Yield the entries of skipped.jsonl of some tasks; reads no further than asked."""
    if SKIPPED not in library.folder.glob(SKIPPED):
        return
    with library.folder.open_file(SKIPPED) as file:
        for line in file:
            entry = json.loads(line)
            if entry["task"] in tasks and reason in (None, entry["reason"]):
                yield entry
