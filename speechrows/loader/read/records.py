"""Rows' tokens and codes, and their records in a file: one a row, read in any order, parsed in bulk."""

from dataclasses import dataclass

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


def to_records(tokens: RowTokens) -> tuple[bytes, Int32]:
    """Write rows as records, one after another; return them and the size of each in bytes, [R].

    A record is a head, tokens (inverted where unsupervised), codes, the id, the note; whole int16 words.
    Labels are those of `input_ids` where they are not -100.
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
    texts = [
        np.frombuffer(b"".join([encoded + bytes(len(encoded) % 2) for encoded in column]), np.int16)
        for column in (ids, notes)
    ]
    fields, sizes = _fields(heads)
    words = np.empty(len(fields), np.int16)
    for field, values in enumerate((heads.ravel(), coded, tokens.codes, *texts)):
        words[fields == field] = values.view(np.int16)
    return words.tobytes(), sizes


def from_records(records: bytes, sizes: Int32) -> RowTokens:
    """Read the rows of records that follow one another, of `sizes` [R] bytes each.

    Raises:
        ShortfallError: their codes are of several codecs.
    """
    words = np.frombuffer(records, np.int16)
    ends = np.cumsum(sizes)
    heads = words[((ends - sizes) // 2)[:, None] + np.arange(2 * _HEAD)].view(np.int32)
    num_tokens, num_frames, codecs, id_bytes, note_bytes = np.ascontiguousarray(heads.T)
    fields, _ = _fields(heads)
    coded = words[fields == 1].view(np.int32)
    notes = _texts(records, ends, note_bytes) if note_bytes.any() else ()
    row_ids = _texts(records, ends - note_bytes - note_bytes % 2, id_bytes)
    code_rows = np.flatnonzero(codecs).astype(np.int32)
    return RowTokens(
        row_ids=row_ids,
        num_tokens=num_tokens,
        input_ids=np.where(coded < 0, ~coded, coded),
        labels=np.where(coded < 0, np.int32(IGNORE_INDEX), coded),
        codec=_one_codec(codecs[code_rows], code_rows, row_ids),
        codes=words[fields == 2],
        num_frames=num_frames[code_rows],
        code_rows=code_rows,
        notes=notes,
    )


def _texts(records: bytes, ends: npt.NDArray[np.integer], sizes: Int32) -> tuple[str, ...]:
    """Texts of `sizes` bytes [R], each filled up to whole words that end at `ends`."""
    stops = ends - sizes % 2
    places = zip((stops - sizes).tolist(), stops.tolist(), strict=True)
    return tuple([records[begin:end].decode() for begin, end in places])


def _fields(heads: Int32) -> tuple[npt.NDArray[np.int8], Int32]:
    """The field, 0 to 4, of each int16 word of records with these heads; the size of each record in bytes."""
    words = np.full((len(heads), 5), 2 * _HEAD)
    words[:, 1] = 2 * heads[:, 0]
    words[:, 2] = _NUM_CODEBOOKS[heads[:, 2]] * heads[:, 1]
    words[:, 3:] = (heads[:, 3:] + 1) // 2
    fields = np.repeat(np.tile(np.arange(5, dtype=np.int8), len(heads)), words.ravel())
    return fields, 2 * words.sum(1, dtype=np.int32)


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
