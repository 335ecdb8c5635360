"""The format of a sidecar (a folder of generated columns): columns, recipe, and which task needs which kind.

Columns of one's own, made elsewhere, have no recipe: a table of `clip_id` and `answer`, `codes` or `units`.

A value is `answer` string with `is_cut` bool, `codes` list of list of int16, or `units` list of
int32; null where a clip got none, and then `reason` says why. Of `traits` it is five numbers, float32, each
null where the clip tells none: they are named as the emotion corpora publish theirs.
"""

import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from speechrows.codec import CODECS
from speechrows.errors import UsageError
from speechrows.rows.tasks import SIFT
from speechrows.types import Task

RECIPE = b"speechrows_generated"  # the key of the recipe in a file's parquet metadata
# The column of each kind of generated columns.
COLUMN_OF = {
    **dict.fromkeys(SIFT, "answer"),
    **{"answer": "answer", "mimi": "codes", "units": "units", "traits": "traits"},
}
OWN = {"answer": "answer", "codes": "mimi", "units": "units"}  # the kind of a column of one's own
_ANSWER = [("answer", pa.string()), ("is_cut", pa.bool_())]
VALUES: Mapping[str, Sequence[tuple[str, Any]]] = {
    "answer": _ANSWER,
    "codes": [("codes", pa.list_(pa.list_(pa.int16())))],
    "units": [("units", pa.list_(pa.int32()))],
    "traits": [
        (name, pa.float32()) for name in ("speaking_rate", "pitch_mean", "pitch_std", "rms", "relative_db")
    ],
}


def schema_of(kind: str) -> pa.Schema:
    """The Arrow schema of a sidecar of this kind."""
    return pa.schema([("clip_id", pa.string()), *VALUES[COLUMN_OF[kind]], ("reason", pa.string())])


def read_recipe(path: str, schema: pa.Schema, codec: str | None = None) -> dict[str, Any]:
    """Return the recipe of a sidecar's file: how its values were made.

    `codec` is that of codes and units that a person made elsewhere.

    Raises:
        UsageError: its columns are not those of its kind, or of none.
    """
    if RECIPE not in (schema.metadata or {}):
        return _own_recipe(path, schema.names, codec)
    return generated_recipe(path, schema)


def generated_recipe(path: str, schema: pa.Schema) -> dict[str, Any]:
    """Return the recipe of a file that `generate` wrote.

    Raises:
        UsageError: it did not, or its columns are not those of its kind.
    """
    metadata = (schema.metadata or {}).get(RECIPE)
    if metadata is None:
        names = ", ".join(schema.names) or "none"
        raise UsageError(
            f"{path}: has the columns {names}, and no recipe in its metadata; expected a part of generated "
            "columns, which `speechrows generate` writes"
        )
    try:
        recipe = json.loads(metadata)
    except (ValueError, RecursionError):
        recipe = None
    if not isinstance(recipe, dict):
        raise UsageError(
            f"{path}: found {metadata!r:.80} as its recipe, expected a JSON object; make the columns anew "
            "with `speechrows generate --overwrite`"
        )
    if recipe.get("kind") not in [*COLUMN_OF]:  # which may be of any JSON type
        raise UsageError(
            f"{path}: holds {recipe.get('kind')!r}; expected one of {', '.join(COLUMN_OF)}. A newer "
            "speechrows wrote it, perhaps"
        )
    for field in schema_of(recipe["kind"]):
        if schema.names.count(field.name) != 1 or schema.field(field.name).type != field.type:
            raise UsageError(
                f"{path}: has the columns {_columns(schema)}; expected {field.name} of {field.type}, as "
                f"`speechrows generate` writes {recipe['kind']}"
            )
    if COLUMN_OF[recipe["kind"]] in ("codes", "units") and not isinstance(recipe.get("codec"), str):
        raise UsageError(f"{path}: found no codec in its recipe; expected the name of one")
    return recipe


def _own_recipe(path: str, names: Sequence[str], codec: str | None) -> dict[str, Any]:
    """The recipe of columns that a person made elsewhere: what is told of them."""
    values = [name for name in OWN if name in names]
    if names.count("clip_id") != 1 or len(values) != 1 or names.count(values[0]) != 1:
        raise UsageError(
            f"{path}: has the columns {', '.join(names) or 'none'}, and no recipe of `speechrows generate`; "
            f"expected clip_id and one of {', '.join(OWN)}, once each"
        )
    if values[0] == "answer":
        return {"kind": OWN["answer"]}
    if codec not in CODECS:
        raise UsageError(
            f"{path}: holds {values[0]} of {codec or 'a codec that is not told'}; say which: --with-codec "
            f"{' or '.join(CODECS)}"
        )
    return {"kind": OWN[values[0]], "codec": codec}


def as_values(kind: str, table: pa.Table) -> pa.Table:
    """A table with the columns of a kind, in their types; what columns of one's own lack is null.

    Raises:
        ArrowException: a column holds something else.
    """
    fields = [field for field in schema_of(kind) if field.name in ("clip_id", *dict(VALUES[COLUMN_OF[kind]]))]
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def satisfies(task: Task, kinds: frozenset[str]) -> bool:
    """Whether sidecars of these kinds bring what a task needs of each clip."""
    return task.needs is None or not kinds.isdisjoint(kinds_for(task))


def are_joined(kinds: frozenset[str], task: Task) -> bool:
    """Whether rows of a task hold anything of sidecars of these kinds: traits are joined to every row."""
    return "traits" in kinds or not kinds.isdisjoint(kinds_for(task))


def how_to_make(task: Task, builder: str) -> str:
    """Say that a task lacks what it needs of each clip, with the command that makes it."""
    kind, words, flags, out = {
        "codes": ("mimi", "codes", "mimi", "codes/mimi"),
        "units": ("units", "units", "units --model MODEL --layer N --kmeans FILE.npy", "units"),
    }.get(str(task.needs), (task.name, "answers", f"sift --mode {task.name}", f"answers/{task.name}"))
    if kind not in COLUMN_OF:
        return (
            f"config {task.name} needs {words}, which {builder} does not bring and `speechrows generate` "
            "does not make; choose another config"
        )
    return (
        f"config {task.name} needs {words}; make them with: speechrows generate {flags} --source {builder} "
        f"--data-dir DIR --out {out}, then build with --with {out}"
    )


def kinds_for(task: Task) -> tuple[str, ...]:
    """The kinds that bring what a task needs or may use; of those at hand, the first is joined."""
    if task.needs == "answer":
        return (task.name, "answer")
    if task.needs is not None:
        return ("mimi",) if task.needs == "codes" else ("units",)
    return ("mimi", "units") if task.codec_targets else ()
