"""Writes a sidecar: numbered parquet files, each written whole or not at all; an unfinished one resumes.

A file holds ROWS_PER_FILE clips in the order in which they were added; the last may hold fewer, and
is written anew, under its own name, until it is full. So a run that was killed loses what it made in
the last SECONDS, and runs that were interrupted anywhere end in the same files as one that was not.
The recipe stands in the metadata of every file (sidecar/columns.py); the folder holds nothing else.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.sidecar.columns import COLUMN_OF
from speechrows.sidecar.columns import RECIPE
from speechrows.sidecar.columns import VALUES
from speechrows.sidecar.columns import generated_recipe
from speechrows.sidecar.columns import schema_of
from speechrows.types import Int16
from speechrows.types import Int32

ROWS_PER_FILE = 4096
ROWS_PER_GROUP = 1024  # what a build decodes at once
SECONDS = 30.0  # of work that a killed run may lose


class SidecarWriter:
    """A sidecar open for writing, by one process at a time; use it in a `with`.

    >>> recipe = {"kind": "mimi", "codec": "mimi", "model": "kyutai/mimi"}
    >>> with SidecarWriter.open(Path("codes"), recipe) as writer:
    ...     for clip in selection.clips(audio=True):
    ...         if clip.clip_id not in writer:
    ...             writer.add(clip.clip_id, encode(clip.audio.load()))

    Add in the order of the clips: the order of the files is that of `add`.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], lock: int) -> None:
        """Use `SidecarWriter.open`."""
        self.folder = folder
        self.recipe: dict[str, Any] = json.loads(_json(recipe))  # as it is read back: tuples are lists
        self._schema = schema_of(recipe["kind"]).with_metadata({RECIPE: _json(recipe)})
        self._value = COLUMN_OF[recipe["kind"]]
        self._lock = lock
        self._hashes: set[int] = set()  # of the clip_ids
        self._rows: list[tuple[Any, ...]] = []  # of the file that is not full
        self._number = 0  # of that file
        self._written = 0  # rows of it that are on disk
        self._written_at = time.monotonic()

    @staticmethod
    def open(folder: Path, recipe: Mapping[str, Any], *, overwrite: bool = False) -> "SidecarWriter":
        """Open a folder, new or with what an earlier run of the same recipe wrote.

        `recipe` is JSON: "kind" (a key of columns.COLUMN_OF), "codec" for codes and units, and all
        else that decides the values: model, prompts, sampling. Nothing of host, time, or paths.

        Raises:
            UsageError: it holds something else, or was made with another recipe (and not `overwrite`),
                or another process writes there.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise UsageError(f"{folder}: can not be made ({error.strerror}); give another folder") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{folder}: another run is writing here; wait for it to end") from None
            writer = SidecarWriter(folder, recipe, lock)
            writer._take_up(overwrite=overwrite)
        except BaseException:
            os.close(lock)
            raise
        return writer

    def __contains__(self, clip_id: str) -> bool:
        """Whether the sidecar has the clip, with a value or without.

        Clips are told apart by 64-bit hashes: among ten million, the odds that a new one is taken for
        another are one in two million.
        """
        return hash(clip_id) in self._hashes

    def __len__(self) -> int:
        """The number of clips, with a value or without."""
        return len(self._hashes)

    def add(
        self,
        clip_id: str,
        value: str | Int16 | Int32 | Sequence[float | None] | None,
        *,
        is_cut: bool = False,
        reason: str | None = None,
    ) -> None:
        """Add a clip's value: text, codes int16 [K, F] or units int32 [F]; None and a `reason` for none.

        Of traits, it is their numbers in the order of the columns.

        It is on disk when the file is full, SECONDS later, or when the writer is closed.
        """
        assert (value is None) == (reason is not None), "a reason for exactly what has no value"
        self._hashes.add(hash(clip_id))
        if self._value == "codes" and value is not None:
            value = list(value)  # pyright: ignore[reportAssignmentType]  # Arrow takes lists of 1-D arrays
        cells = [value]
        if self._value == "answer":
            cells = [value, is_cut]
        elif self._value == "traits":
            cells = value or [None] * len(VALUES["traits"])
        self._rows.append((clip_id, *cells, reason))
        if len(self._rows) == ROWS_PER_FILE:
            self.flush()
            self._rows, self._number, self._written = [], self._number + 1, 0
        elif time.monotonic() - self._written_at > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added to disk."""
        if len(self._rows) > self._written:
            self._write()

    def close(self) -> None:
        """Write what was added to disk, and release the folder. One without clips gets an empty file."""
        if self._lock < 0:
            return
        self.flush()
        if not self._number and not self._written:
            self._write()
        os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> "SidecarWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not self._hashes:  # a wrong --source leaves nothing behind
            os.close(self._lock)
            self._lock = -1
            with contextlib.suppress(OSError):
                self.folder.rmdir()
        self.close()

    def _take_up(self, *, overwrite: bool) -> None:
        for temporary in self.folder.glob(".*.tmp"):  # of a run that was killed
            temporary.unlink()
        paths = sorted(self.folder.glob("part-*.parquet"))
        strangers = sorted(p.name for p in self.folder.iterdir() if p not in paths and p.name[0] != ".")
        if strangers:
            raise UsageError(
                f"{self.folder}: holds {', '.join(strangers[:3])}, which `generate` did not write; "
                "give an empty folder"
            )
        if overwrite:
            for path in paths:
                with contextlib.suppress(pa.ArrowException):  # what is broken can not say whose it is
                    generated_recipe(str(path), pq.read_schema(path))
            for path in paths:
                path.unlink()
            return
        for number, path in enumerate(paths):
            self._take_up_file(number, path)

    def _take_up_file(self, number: int, path: Path) -> None:
        """Take up a file; the last one, where it is not full, is what is added to."""
        theirs = generated_recipe(str(path), _schema(path))
        if theirs != self.recipe:
            raise UsageError(
                f"{self.folder}: {_differences(theirs, self.recipe)}. Give the same, another --out, "
                "or --overwrite, which makes all of it anew"
            )
        table = pq.read_table(path, use_threads=False)
        self._hashes |= set(map(hash, table["clip_id"].to_pylist()))
        if len(table) == ROWS_PER_FILE and path == self._path(number):
            self._number = number + 1
            return
        if path != self._path(number) or self._path(number + 1).exists():
            raise UsageError(
                f"{path}: found {len(table)} clips and a part that is missing or short; expected parts of "
                f"{ROWS_PER_FILE} numbered from 0. Mend the folder, or give --overwrite"
            )
        self._number, self._written = number, len(table)
        self._rows = list(zip(*(table[name].to_pylist() for name in self._schema.names), strict=True))

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"

    def _write(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        path = self._path(self._number)
        temporary = self.folder / f".{path.name}.tmp"
        try:
            with temporary.open("wb") as file:
                pq.write_table(
                    pa.Table.from_arrays(arrays, schema=self._schema),
                    file,
                    row_group_size=ROWS_PER_GROUP,
                    compression="zstd",
                    use_dictionary=False,
                )
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            os.fsync(self._lock)  # the folder's own file descriptor: the new name too is on disk
        except OSError as error:
            raise ShortfallError(
                f"{path}: can not be written ({error.strerror or error}). Make room, and run the same "
                "command again: what is there is kept"
            ) from error
        self._written, self._written_at = len(self._rows), time.monotonic()


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: found {error}; expected a part that `generate` wrote. Delete it and those after it: "
            "they are made again"
        ) from error


def _json(recipe: Mapping[str, Any]) -> bytes:
    return json.dumps(recipe, sort_keys=True).encode()


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Where two recipes differ, in words."""
    names = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
    pairs = "; ".join(f"{name} {theirs.get(name)!r:.120}, not {ours.get(name)!r:.120}" for name in names)
    return f"was made with {pairs}"
