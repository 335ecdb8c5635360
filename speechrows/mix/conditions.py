"""`where`: triples [column, operator, value] as pyarrow's readers take them, over what is known of rows."""

import operator
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.folder.scores import SCHEMA as SCORES

Bools = npt.NDArray[np.bool_]
Kind = Literal["number", "text"]

# What a row's column may be asked for, and where it is read: see row_masks.
IN_MEMORY = ("turn_number", "num_tokens", "padded_tokens", "num_samples", "sampling_rate", "seconds", "task")
IN_INDEX = ("row_id", "conversation_id", "num_turns", "conversation_tokens", "hash")
IN_SCORES = frozenset(SCORES.names) - {"row_id"}


def _kind(kind: pa.DataType) -> Kind | None:
    if pa.types.is_string(kind):
        return "text"
    return "number" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else None


@cache
def kinds() -> Mapping[str, Kind | None]:
    """The columns of rows, and what follows from them or was scored; None for what may not be asked for."""
    from speechrows.rows.schema import ARROW_SCHEMA  # noqa: PLC0415  # with it comes datasets, half a second

    return {
        **{entry.name: _kind(entry.type) for entry in (*SCORES, *ARROW_SCHEMA)},
        **dict.fromkeys(("padded_tokens", "seconds", "hash"), "number"),
    }


_COMPARED: Mapping[str, Callable[..., Any]] = {
    "=": pc.equal, "==": pc.equal, "!=": pc.not_equal,
    "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip
_HIGHEST = 1 << 63  # of numbers that columns are compared with
OPERATORS = (*_COMPARED, "in", "not in", "startswith")


@dataclass(frozen=True, slots=True)
class Condition:
    """A triple. A null holds for nothing, but for `= null` and `not in`, as in pyarrow's own."""

    column: str
    operator: str
    value: Any  # a number, text, null, or of `in` and `not in` a tuple of them

    def holds(self, values: "pa.Array[Any]") -> Bools:
        """Whether it holds for each of a column's values."""
        is_in = self.operator.endswith("in")
        if is_in:
            members = pa.array([*self.value])
            if pa.types.is_floating(members.type) and pa.types.is_integer(values.type):
                values = values.cast(pa.float64())
            elif members.type != values.type:
                members = members.cast(values.type)
            holds: Any = pc.is_in(values, value_set=members, skip_nulls=False)
            holds = pc.invert(holds) if self.operator == "not in" else holds
        elif self.value is None:
            holds = pc.is_valid(values) if self.operator == "!=" else pc.is_null(values)
        elif self.operator == "startswith":
            holds = pc.starts_with(values, self.value)
        else:
            is_float = pa.types.is_floating(values.type)  # of scores of 32 bits 0.9 is the nearest to it
            value = pa.scalar(float(self.value), values.type) if is_float else self.value
            holds = _COMPARED[self.operator](values, value)
        return holds.fill_null(False).to_numpy(zero_copy_only=False)


Dnf = tuple[tuple[Condition, ...], ...]  # one of these, all of it; of nothing, every row


def parse_where(where: Any) -> Dnf:
    """The conditions of a `where`.

    Raises:
        UsageError: it is none, or of a column that rows have not.
    """
    if not isinstance(where, Sequence) or isinstance(where, str):
        raise _no_triple(where)
    if not where:
        return ()
    is_and = any(isinstance(part, Sequence) and part and isinstance(part[0], str) for part in where)
    if any(not isinstance(part, Sequence) or isinstance(part, str) for part in where):
        raise _no_triple(where)
    return tuple(tuple(map(_condition, part)) for part in ([where] if is_and else where))


def _condition(triple: Any) -> Condition:
    if not isinstance(triple, Sequence) or isinstance(triple, str) or len(triple) != 3:
        raise _no_triple(triple)
    column, name, value = triple
    if not isinstance(column, str) or name not in OPERATORS:
        raise _no_triple(triple)
    kind, asked = kinds().get(column), [name for name, kind in kinds().items() if kind]
    if kind is None:
        if column in kinds():
            raise UsageError(f"where: {column} is neither text nor a number; columns: {', '.join(asked)}")
        meant = did_you_mean(column, asked).replace("; ", ", ")
        raise UsageError(f"where: rows have no column {column!r:.80}{meant}")
    if name in ("in", "not in"):
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        if not is_list or not value or not all(_is_of(kind, entry) for entry in value):
            raise UsageError(f"where: {[*triple]!r:.200}: expected a list of {kind}s after {name}")
        return Condition(column, name, tuple(value))
    if value is None and name in ("=", "==", "!="):
        return Condition(column, name, None)
    if not _is_of(kind, value):
        raise UsageError(f"where: {[*triple]!r:.200}: {column} is a {kind}, found {value!r:.80}")
    if name == "startswith" and kind != "text":
        raise UsageError(f"where: {[*triple]!r:.200}: {column} is a number; startswith is of text")
    return Condition(column, name, value)


def _is_of(kind: Kind, value: Any) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if isinstance(value, int) and not -_HIGHEST <= value < _HIGHEST:
        raise UsageError(f"where: found {value!r:.40}, expected a number of 64 bits")
    return isinstance(value, int | float) and not isinstance(value, bool)


def _no_triple(found: Any) -> UsageError:
    return UsageError(
        f"where: {found!r:.200} is no [column, operator, value]; operators: {', '.join(OPERATORS)}"
    )


def combined(dnf: Dnf, holds: Mapping[Condition, Bools], num_rows: int) -> Bools:
    """The rows for which one of the conjunctions holds; `holds` has each condition's."""
    if not dnf:
        return np.ones(num_rows, bool)
    rows = np.zeros(num_rows, bool)
    for conjunction in dnf:
        part = np.ones(num_rows, bool)
        for condition in conjunction:
            operator.iand(part, holds[condition])
        rows |= part
    return rows
