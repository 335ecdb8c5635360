"""Rows' tokens and codes, and their records in a file: one a row, read in any order, parsed together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from speechrows.codec import CODECS
from speechrows.errors import ShortfallError
from speechrows.types import IGNORE_INDEX
from speechrows.types import Int16
from speechrows.types import Int32

# int32 before a row's tokens: tokens, frames, number of the codec (0 is none), bytes of the id, of the note
_HEAD = 5
_CODECS = (None, *CODECS)
_NUM_CODEBOOKS = np.array([0, *(spec.num_codebooks for spec in CODECS.values())])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RowTokens:
    """The tokens and codes of R rows, T tokens in all; names and shapes as in Ragged."""

    row_ids: tuple[str, ...]  # [R]
    num_tokens: Int32  # [R]
    input_ids: Int32  # [T], without the padding that is stored
    labels: Int32  # [T]
    codec: str | None  # of CODECS
    codes: Int16  # [N_c frames x K], clip by clip, each [K, F]
    num_frames: Int32  # [N_c]
    code_rows: Int32  # [N_c], places in row_ids
    notes: tuple[str, ...] = ()  # [R], what else was asked of rows, in whatever form; or none


def to_records(tokens: RowTokens) -> list[bytes]:
    """Write rows as records, one each.

    A record is a head, tokens (inverted where unsupervised), codes, the id, the note. Labels are those of
    `input_ids` where they are not -100.
    """
    ids = [row_id.encode() for row_id in tokens.row_ids]
    notes = [note.encode() for note in tokens.notes or [""] * len(ids)]
    heads = np.zeros((len(ids), _HEAD), np.int32)
    heads[:, 0] = tokens.num_tokens
    heads[tokens.code_rows, 1] = tokens.num_frames
    heads[tokens.code_rows, 2] = _CODECS.index(tokens.codec)
    heads[:, 3] = [len(encoded) for encoded in ids]
    heads[:, 4] = [len(encoded) for encoded in notes]
    coded = np.where(tokens.labels == IGNORE_INDEX, ~tokens.input_ids, tokens.input_ids)
    fields = (
        _parts(heads, np.full(len(ids), _HEAD)),
        _parts(coded, tokens.num_tokens),
        _parts(tokens.codes, _NUM_CODEBOOKS[heads[:, 2]] * heads[:, 1]),
        ids,
        notes,
    )
    return [b"".join(record) for record in zip(*fields, strict=True)]


def from_records(records: Sequence[bytes]) -> RowTokens:
    """Read the rows of records.

    Raises:
        ShortfallError: their codes are of several codecs.
    """
    heads = np.frombuffer(b"".join([record[: 4 * _HEAD] for record in records]), np.int32)
    num_tokens, num_frames, codecs, id_bytes, note_bytes = np.ascontiguousarray(heads.reshape(-1, _HEAD).T)
    sizes = 4 * num_tokens, 2 * _NUM_CODEBOOKS[codecs] * num_frames, id_bytes, note_bytes
    ends = np.cumsum([np.full_like(num_tokens, 4 * _HEAD), *sizes], axis=0).tolist()
    coded, codes, ids, notes = (
        [record[begin:end] for record, begin, end in zip(records, begins, stops, strict=True)]
        for begins, stops in pairwise(ends)
    )
    coded = np.frombuffer(b"".join(coded), np.int32)
    row_ids = tuple([encoded.decode() for encoded in ids])
    code_rows = np.flatnonzero(codecs).astype(np.int32)
    return RowTokens(
        row_ids=row_ids,
        num_tokens=num_tokens,
        input_ids=np.where(coded < 0, ~coded, coded),
        labels=np.where(coded < 0, np.int32(IGNORE_INDEX), coded),
        codec=_one_codec(codecs[code_rows], code_rows, row_ids),
        codes=np.frombuffer(b"".join(codes), np.int16),
        num_frames=num_frames[code_rows],
        code_rows=code_rows,
        notes=tuple([encoded.decode() for encoded in notes]) if any(notes) else (),
    )


def _parts(values: npt.NDArray[Any], sizes: npt.NDArray[np.integer]) -> list[bytes]:
    """The bytes of an array in parts of so many entries, one after another."""
    data, ends = values.tobytes(), values.itemsize * np.cumsum(sizes)
    return [data[begin:end] for begin, end in pairwise([0, *ends.tolist()])]


def _one_codec(codecs: Int32, code_rows: Int32, row_ids: tuple[str, ...]) -> str | None:
    if not len(codecs):
        return None
    other = int((codecs != codecs[0]).argmax())
    if codecs[other] != codecs[0]:
        raise ShortfallError(
            f"{row_ids[code_rows[other]]}: has codes of {_CODECS[codecs[other]]}, found in one batch with "
            f"{row_ids[code_rows[0]]}, of {_CODECS[codecs[0]]}; expected one codec. Load these tasks apart"
        )
    return _CODECS[codecs[0]]
