"""The format of a sidecar (a folder of generated columns): columns, recipe, and which task needs which kind.

A value is `answer` string with `is_cut` bool, `codes` list of list of int16, or `units` list of
int32; null where a clip got none, and then `reason` says why.
"""

import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from speechrows.errors import UsageError
from speechrows.rows.tasks import SIFT
from speechrows.types import Task

RECIPE = b"speechrows_generated"  # the key of the recipe in a file's parquet metadata
# The column of each kind of generated columns.
COLUMN_OF = {**dict.fromkeys(SIFT, "answer"), "mimi": "codes", "units": "units"}
_ANSWER = [("answer", pa.string()), ("is_cut", pa.bool_())]
VALUES: Mapping[str, Sequence[tuple[str, Any]]] = {
    "answer": _ANSWER,
    "codes": [("codes", pa.list_(pa.list_(pa.int16())))],
    "units": [("units", pa.list_(pa.int32()))],
}


def schema_of(kind: str) -> pa.Schema:
    """The Arrow schema of a sidecar of this kind."""
    return pa.schema([("clip_id", pa.string()), *VALUES[COLUMN_OF[kind]], ("reason", pa.string())])


def read_recipe(path: str, schema: pa.Schema) -> dict[str, Any]:
    """Return the recipe of a sidecar's file: how its values were made.

    Raises:
        UsageError: `generate` did not write the file, or its columns are not those of its kind.
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
    if COLUMN_OF[recipe["kind"]] != "answer" and not isinstance(recipe.get("codec"), str):
        raise UsageError(f"{path}: found no codec in its recipe; expected the name of one")
    return recipe


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def satisfies(task: Task, kinds: frozenset[str]) -> bool:
    """Whether sidecars of these kinds bring what a task needs of each clip."""
    return task.needs is None or not kinds.isdisjoint(kinds_for(task))


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
        return (task.name,)
    if task.needs is not None:
        return ("mimi",) if task.needs == "codes" else ("units",)
    return ("mimi", "units") if task.codec_targets else ()
