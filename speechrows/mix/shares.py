"""How much of each source each epoch has: whole numbers that add up exactly, and their sums."""

from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from fractions import Fraction

from speechrows.errors import UsageError
from speechrows.mix.checks import is_shared
from speechrows.mix.resolved import Branch
from speechrows.mix.resolved import Resolved
from speechrows.mix.values import Mix
from speechrows.mix.values import Unit

MOST_ROWS = (1 << 31) - 1  # of an epoch: plans number them in 32 bits
TICKS_PER_HOUR = 3600 * 1_000_000  # hours are counted in microseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What a source holds once: its rows, their audio in microseconds, their tokens without padding."""

    samples: int
    hours: int
    tokens: int

    def of(self, unit: Unit) -> int:
        """The size in a unit."""
        return int(getattr(self, unit))


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How much of each source an epoch has, in the `units` of each; stages follow one another.

    `stages` are pairs: for how many epochs, and how much of each source an epoch then has. The last stays.
    """

    units: tuple[Unit, ...]
    stages: tuple[tuple[int, tuple[int, ...]], ...]

    def stage(self, epoch: int) -> int:
        """The number of an epoch's stage."""
        for number, (epochs, _) in enumerate(self.stages[:-1]):
            if epoch < epochs:
                return number
            epoch -= epochs
        return len(self.stages) - 1

    def amounts(self, epoch: int) -> tuple[int, ...]:
        """How much of each source an epoch has."""
        return self.stages[self.stage(epoch)][1]

    def before(self, epoch: int) -> tuple[int, ...]:
        """How much of each source all epochs before it have."""
        sums = [0] * len(self.units)
        for number, (epochs, amounts) in enumerate(self.stages):
            count = epoch if number + 1 == len(self.stages) else min(epoch, epochs)
            sums = [total + count * amount for total, amount in zip(sums, amounts, strict=True)]
            epoch -= count
        return tuple(sums)


def schedule(resolved: Resolved, sizes: Sequence[Size]) -> Schedule:
    """The schedule of a mix whose sources have these sizes.

    Raises:
        UsageError: weights are all 0, what they share counts none of a source, or an epoch has too many rows.
    """
    mix = resolved.mix
    planned = _shared(resolved, sizes) if is_shared(mix) else _counted(resolved, sizes)
    for _, amounts in planned.stages:
        parts = zip(amounts, sizes, planned.units, strict=True)
        num_rows = sum(amount * size.samples // max(1, size.of(unit)) for amount, size, unit in parts)
        if num_rows > MOST_ROWS:
            message = f"an epoch has {num_rows:,} rows, expected at most {MOST_ROWS:,}; say less of a source"
            raise mix.problem(message, mix.lines.get("epoch"))
    return planned


def _shared(resolved: Resolved, sizes: Sequence[Size]) -> Schedule:
    mix = resolved.mix
    unit = mix.by or "samples"
    of_unit = [size.of(unit) for size in sizes]
    for source, size in zip(resolved.sources, of_unit, strict=True):
        if not size:
            message = f"source {source.name} holds no {unit}; expected some, since shares count them"
            raise mix.problem(message, source.given.line)
    stages = list[tuple[int, tuple[int, ...]]]()
    for stage in mix.stages or [None]:
        weights = stage.weight if stage else {}
        line = stage.line if stage else mix.lines.get("sources")
        root = _weighted(mix, resolved.root, weights, line)
        try:
            shares = dict(_shares(root, of_unit, Fraction(1)))
        except OverflowError as error:
            raise mix.problem(f"temperature: {error}", mix.lines.get("temperature")) from error
        in_order = [shares.get(number, Fraction(0)) for number in range(len(sizes))]
        total = _total(mix, in_order, of_unit)
        epochs = stage.epochs if stage and stage.epochs else 0
        stages.append((epochs, tuple(largest_remainders(in_order, total))))
    return Schedule(units=(unit,) * len(sizes), stages=tuple(stages))


def largest_remainders(shares: Sequence[Fraction], total: int) -> list[int]:
    """Whole numbers that add up to `total` exactly, by shares that add up to 1.

    Each is its share rounded down; what is left goes, one each, to the largest remainders, of equal ones to
    the first.
    """
    exact = [share * total for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _counted(resolved: Resolved, sizes: Sequence[Size]) -> Schedule:
    units, amounts = list[Unit](), list[int]()
    for source, size in zip(resolved.sources, sizes, strict=True):
        given = source.given
        units.append("samples" if given.hours is None else "hours")
        if given.samples is not None:
            amounts.append(given.samples)
        elif given.hours is not None:
            amounts.append(_rounded(_exactly(given.hours) * TICKS_PER_HOUR))
        else:
            passes = Fraction(1) if given.passes is None else _exactly(given.passes)
            amounts.append(_rounded(passes * size.samples))
        if amounts[-1] and not size.of(units[-1]):
            raise resolved.mix.problem(
                f"source {source.name} holds no {units[-1]}; expected some, since it counts them", given.line
            )
    if not any(amounts):
        raise resolved.mix.problem("no source gives a row; expected one that counts more than 0")
    return Schedule(units=tuple(units), stages=((0, tuple(amounts)),))


def _weighted(mix: Mix, branch: Branch, weights: Mapping[str, float], line: int | None) -> Branch:
    """The tree with a stage's weights in the place of its own."""
    children = [_weighted(mix, child, weights, line) for child in branch.children]
    given = [child.weight is not None for child in children]
    if any(given) and not all(given):
        raise mix.problem("some sources have a weight and some have not; give all of them one, or none", line)
    weight = weights.get(branch.name, branch.weight)
    if weight != 0 and any(given) and not any(child.weight for child in children):
        raise mix.problem(f"all weights of {branch.name or 'the mix'} are 0; expected one above it", line)
    return replace(branch, weight=weight, children=tuple(children))


def _shares(branch: Branch, sizes: Sequence[int], share: Fraction) -> list[tuple[int, Fraction]]:
    """The share of each source, by number; those of a branch add up to `share`, or are none."""
    if branch.number is not None:
        return [(branch.number, share)]
    weights = [_tempered(child, sizes, branch.temperature) for child in branch.children]
    total = sum(weights, Fraction(0))
    return [
        pair
        for child, weight in zip(branch.children, weights, strict=True)
        if weight
        for pair in _shares(child, sizes, share * weight / total)
    ]


def _tempered(branch: Branch, sizes: Sequence[int], temperature: float) -> Fraction:
    """A branch's weight, by default its size, to the power of the temperature.

    Raises:
        OverflowError: that is more, or less, than a number holds.
    """
    size = Fraction(sum(sizes[number] for number in branch.numbers()))
    weight = size if branch.weight is None else _exactly(branch.weight)
    if temperature == 1 or not weight:
        return weight
    with suppress(OverflowError):
        if power := float(weight) ** temperature:
            return _exactly(power)
    raise OverflowError(f"found {temperature:g}, which takes the weight {float(weight):g} out of all numbers")


def _total(mix: Mix, shares: Sequence[Fraction], sizes: Sequence[int]) -> int:
    """How much an epoch holds, in the unit of its shares."""
    lengths = [size / share for size, share in zip(sizes, shares, strict=True) if share]
    if mix.epoch == "first":
        return int(min(lengths))
    if mix.epoch == "all":
        return -int(-max(lengths) // 1)
    if not isinstance(mix.epoch, Mapping):
        raise UsageError(f"epoch: found {mix.epoch!r}, expected how long it is")
    ((unit, count),) = mix.epoch.items()
    return max(1, _rounded(_exactly(count) * (TICKS_PER_HOUR if unit == "hours" else 1)))


def _exactly(number: float) -> Fraction:
    """A number as it is written."""
    return Fraction(str(number))


def _rounded(number: Fraction) -> int:
    return int(number + Fraction(1, 2))
