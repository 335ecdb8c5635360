"""Codes of clips out of a sidecar, joined to rows as these are read: rows of any task have codes then."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from speechrows.codec import CODECS
from speechrows.codec import check
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.read.records import RowTokens
from speechrows.loader.read.rowgroup import read_columns
from speechrows.loader.read.rowgroup import read_row_groups
from speechrows.sidecar.join import GeneratedColumns
from speechrows.types import Codes

KINDS = ("mimi", "units")  # of generated columns; of those at hand, the first is joined


class RowCodes:
    """Reads row groups, with the codes of each row's clip; for several threads. It can be pickled."""

    def __init__(self, columns: GeneratedColumns, kind: str, codec: str | None) -> None:
        """Use `RowCodes.open`."""
        self._columns, self._kind, self._codec = columns, kind, codec
        self._lock = threading.Lock()  # the columns keep row groups, which two threads must not drop at once

    def __reduce__(self) -> tuple[Any, ...]:
        return RowCodes, (self._columns, self._kind, self._codec)

    @staticmethod
    def open(places: Sequence[str], codec: str | None = None) -> "RowCodes":
        """Open sidecars of codes or units; see GeneratedColumns.

        Raises:
            UsageError: they hold none.
        """
        try:
            columns = GeneratedColumns.open(places, codec)
        except UsageError as error:  # whose advice is a build's
            advice = str(error).replace("--with-codec ", "codec=").replace("--with ", "codes=")
            raise UsageError(advice) from error
        kind = next((kind for kind in KINDS if kind in columns.kinds), None)
        if kind is None:
            raise UsageError(
                f"{', '.join(places)}: holds {', '.join(sorted(columns.kinds))}; expected codes or units, as "
                "`speechrows generate mimi` or `units` makes them"
            )
        return RowCodes(columns, kind, codec)

    def __call__(self, index: IndexedRows, shard: int, row_groups: Sequence[int]) -> RowTokens:
        """The rows of a row group, with codes of the sidecar in place of their own.

        Raises:
            UsageError: a clip has none there, or of an unknown codec.
            ShortfallError: the row group can not be read.
        """
        tokens = read_row_groups(index, shard, row_groups)
        ids = [*map(str, read_columns(index, shard, row_groups, ("clip_id",))["clip_id"].to_pylist())]
        with self._lock:
            by_clip = [self._columns.codes(self._kind, clip_id) for clip_id in ids]
        codes = [self._checked(index, clip_id, joined) for clip_id, joined in zip(ids, by_clip, strict=True)]
        return replace(
            tokens,
            codec=codes[0].codec if codes else None,
            codes=np.concatenate([of_clip.values.ravel() for of_clip in codes] or [np.empty(0, np.int16)]),
            num_frames=np.array([of_clip.values.shape[1] for of_clip in codes], np.int32),
            code_rows=np.arange(len(codes), dtype=np.int32),
        )

    def _checked(self, index: IndexedRows, clip_id: str, codes: Codes | None) -> Codes:
        if codes is None:
            raise UsageError(
                f"{clip_id}: found no codes of it; expected some for every clip of {index.address}. "
                f"{how_to_make(index, self._kind)}"
            )
        if codes.codec not in CODECS:
            raise UsageError(
                f"{clip_id}: has codes of {codes.codec}; expected one of {', '.join(CODECS)}, whose frames "
                "are known"
            )
        if codes.codec != (self._codec or codes.codec):
            raise UsageError(f"{clip_id}: has codes of {codes.codec}; expected {self._codec}, as codec= says")
        wrong = check(codes.values, CODECS[codes.codec])
        if wrong:
            raise ShortfallError(f"{clip_id}: {wrong}. Make codes anew: `speechrows generate --overwrite`")
        return codes


def how_to_make(index: IndexedRows, kind: str = "mimi") -> str:
    """Say which command makes the codes of a folder's clips."""
    flags = " --model MODEL --layer N --kmeans FILE.npy" if kind == "units" else ""
    return (
        f"Make them: speechrows generate {kind} --source {index.address}{flags} --out CODES, and give "
        "codes=CODES"
    )
