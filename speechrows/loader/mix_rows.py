"""The rows of a mix, source by source, and which of them each epoch has."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from speechrows.folder.joined import JoinedIndex
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.order import Int64
from speechrows.loader.plan.order import expanded
from speechrows.loader.plan.order import stable_argsort
from speechrows.loader.plan.passes import taken
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.loader.plan_rows import ticks_of
from speechrows.mix.shares import TICKS_PER_HOUR
from speechrows.mix.shares import Schedule
from speechrows.mix.shares import Size
from speechrows.mix.values import Unit
from speechrows.types import Int32

_MICROSECONDS = TICKS_PER_HOUR // 3600


@dataclass(frozen=True, kw_only=True, eq=False)
class MixSource:
    """A source of a mix: its rows of the joined index, in file order, and where they came from."""

    name: str
    tags: Mapping[str, str]
    rows: Int32
    num_left_out: int  # rows that `where` does not hold for
    size: Size
    codecs: tuple[str, ...]  # of its rows' targets
    state: Mapping[str, Any]  # path, revision, config, split and a digest of the rows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EpochRows:
    """The rows of an epoch, source by source and pass by pass: in each, file order and whole conversations.

    `edges` are the places at which a source begins, and the end; `begins` those of each pass of a source.
    """

    rows: Int32
    edges: Int64
    begins: Int64

    def sources(self, places: Int32) -> npt.NDArray[np.int16]:
        """The number of the source of the row at each place."""
        sources = np.repeat(np.arange(len(self.edges) - 1, dtype=np.int16), np.diff(self.edges))
        return sources[places]


@dataclass(frozen=True, kw_only=True, eq=False)
class MixRows:
    """What a mix is made of once it is opened: its joined rows, its sources, and how much each epoch has."""

    index: JoinedIndex
    sources: tuple[MixSource, ...]
    schedule: Schedule
    seed: int
    codecs: Int32 | None  # of each shard, a number; None where all may share a batch
    counts_repeats: bool = False  # whether a plan tells how often each row came before: augmentation asks

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources, by number."""
        return tuple(source.name for source in self.sources)

    def owners(self) -> dict[str, str]:
        """The first source of each codec, by codec."""
        owners: dict[str, str] = {}
        for source in self.sources:
            for codec in source.codecs:
                owners.setdefault(codec, source.name)
        return owners

    def state(self) -> dict[str, Any]:
        """What the epochs depend on, as plain values: each source with its digest, and how much is taken."""
        shares = [[epochs, [*amounts]] for epochs, amounts in self.schedule.stages]
        sources = {
            source.name: {**source.state, "kept": len(source.rows), "unit": unit}
            for source, unit in zip(self.sources, self.schedule.units, strict=True)
        }
        return {"seed": self.seed, "stages": shares, "sources": sources}

    def epoch(self, epoch: int) -> EpochRows:
        """The rows of an epoch."""
        passes, edges, begins = [np.empty(0, np.int32)], [0], list[int]()
        amounts, before = self.schedule.amounts(epoch), self.schedule.before(epoch)
        at = 0
        for number in range(len(self.sources)):
            for chosen in self.stretch(number, before[number], before[number] + amounts[number]):
                begins.append(at)
                passes.append(chosen)
                at += len(chosen)
            edges.append(at)
        return EpochRows(
            rows=np.concatenate(passes), edges=np.array(edges, np.int64), begins=np.array(begins, np.int64)
        )

    def stretch(self, number: int, begin: int, end: int) -> list[Int32]:
        """The rows of a source that a stretch of its passes has, pass by pass: see `taken`."""
        index, rows, unit = self.index, self.sources[number].rows, self.schedule.units[number]
        whole = index.whole
        if unit == "samples" and not np.any(whole if isinstance(whole, bool) else whole[rows]):
            return [rows[items] for items in taken(len(rows), begin, end, seed=self.seed, source=number)]
        begins = np.ones(len(rows), bool)
        conversations = index.conversation[rows]
        np.not_equal(conversations[1:], conversations[:-1], out=begins[1:])
        begins |= np.logical_not(whole if isinstance(whole, bool) else whole[rows])
        firsts = np.flatnonzero(begins).astype(np.int32)
        counts = np.diff(firsts, append=np.int32(len(rows)))
        sizes = np.add.reduceat(units_of(index, rows, unit), firsts)
        stretch = taken(sizes, begin, end, seed=self.seed, source=number)
        return [rows[expanded(firsts[items], counts[items])] for items in stretch]

    def plan(self, options: PlanOptions, epoch: int) -> Plan:
        """Plan an epoch of the mix: its `rows` are those of the joined index, as often as they come.

        Raises:
            UsageError: see plan_epoch.
        """
        chosen = self.epoch(epoch)
        index, numbers = self.index, chosen.rows

        def name(place: int) -> str:
            return index.row_id(int(numbers[place]))

        plan = plan_epoch(self._plan_rows(chosen, options), options, epoch=epoch, name=name)
        before = _came_before(numbers) if self.counts_repeats else None
        repeats = None if before is None else before[plan.rows]
        return replace(plan, rows=numbers[plan.rows], sources=chosen.sources(plan.rows), repeats=repeats)

    def _plan_rows(self, chosen: EpochRows, options: PlanOptions) -> PlanRows:
        """The rows of an epoch as a plan takes them, each as a row of its own as often as it comes."""
        index, rows = self.index, chosen.rows
        windowed, alone = options.window_bytes is not None, options.mode == "bucket"
        whole = index.whole
        sources = None
        if options.session_tokens is not None:
            everywhere = chosen.sources(np.arange(len(rows), dtype=np.int32))
            sources = index.source[rows] * np.int32(len(self.sources)) + everywhere
        nothing = np.broadcast_to(np.int32(0), rows.shape)  # what a mode does not look at
        return PlanRows(
            num_tokens=index.num_tokens[rows],
            ticks=ticks_of(index.num_samples[rows], index.sampling_rate[rows]) if alone else nothing,
            conversations=nothing if alone else _runs(index.conversation[rows], chosen.begins),
            whole=whole if isinstance(whole, bool) else whole[rows],
            row_groups=_runs(_groups(index)[rows], chosen.begins) if windowed else None,
            num_bytes=index.audio_length[rows] if windowed else None,
            sources=sources,
            apart=None if self.codecs is None else self.codecs[index.shard[rows]],
        )


def units_of(index: JoinedIndex, rows: Int32, unit: Unit) -> Int64:
    """What each of some rows is in a unit: one, its audio in microseconds, its tokens."""
    if unit == "samples":
        return np.ones(len(rows), np.int64)
    if unit == "tokens":
        return index.num_tokens[rows].astype(np.int64)
    samples, rates = index.num_samples[rows], index.sampling_rate[rows].astype(np.int64)
    return (samples * _MICROSECONDS + rates // 2) // rates


def size_of(index: JoinedIndex, rows: Int32) -> Size:
    """What some rows hold."""
    return Size(
        samples=len(rows),
        hours=int(units_of(index, rows, "hours").sum()),
        tokens=int(units_of(index, rows, "tokens").sum()),
    )


def _came_before(rows: Int32) -> Int32 | None:
    """How often each row came before in an epoch; None where each comes once."""
    if not np.any(np.bincount(rows) > 1):
        return None
    order = stable_argsort(rows)
    in_order = rows[order]
    firsts = np.flatnonzero(np.diff(in_order, prepend=np.int32(-1)))
    places = np.arange(len(rows), dtype=np.int32)
    before = np.empty(len(rows), np.int32)
    before[order] = places - np.repeat(places[firsts], np.diff(firsts, append=len(rows)))
    return before


def _groups(index: JoinedIndex) -> Int32:
    """The number of each row's row group."""
    sizes = np.diff(index.group_starts, append=len(index))
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


def _runs(values: Int32, begins: Int64) -> Int32:
    """Numbers that change where values do, or where one of `begins` is."""
    changes = np.zeros(len(values), bool)
    if len(values):
        np.not_equal(values[1:], values[:-1], out=changes[1:])
        changes[begins[begins < len(values)]] = True
    return np.cumsum(changes, dtype=np.int32)
