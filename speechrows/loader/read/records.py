"""Rows' tokens and codes, and their records in a file: one a row, read in any order, parsed together."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from speechrows.codec import CODECS
from speechrows.errors import ShortfallError
from speechrows.loader.plan.order import expanded
from speechrows.loader.read.disk_blocks import BLOCK
from speechrows.types import IGNORE_INDEX
from speechrows.types import Int16
from speechrows.types import Int32

Int64 = npt.NDArray[np.int64]
S = TypeVar("S", np.int16, np.int32)

# Before a row's tokens: tokens, frames, number of the codec (0 is none), bytes of the id, of the note
_HEAD = 5
_FIELDS = np.arange(_HEAD)[:, None]
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


def to_records(tokens: RowTokens) -> tuple[Int32, Int32]:
    """Write rows as records, one after another; return their values [V], and the blocks of each row [R].

    A record is a head, tokens (inverted where unsupervised), codes, two a value, and the bytes of the id and
    of the note, four a value, up to a whole block. Labels are those of `input_ids` where they are not -100.
    """
    notes = tokens.notes or ("",) * len(tokens.row_ids)
    texts = [text.encode() for pair in zip(tokens.row_ids, notes, strict=True) for text in pair]
    heads = np.zeros((_HEAD, len(notes)), np.int64)
    heads[0] = tokens.num_tokens
    heads[1, tokens.code_rows] = tokens.num_frames
    heads[2, tokens.code_rows] = _CODECS.index(tokens.codec)
    heads[3:] = np.fromiter(map(len, texts), np.int64, len(texts)).reshape(-1, 2).T
    layout = _Layout.of(heads)
    values = np.zeros(BLOCK * layout.sizes.sum(), np.int32)
    values[layout.begins + _FIELDS] = heads
    coded = np.where(tokens.labels == IGNORE_INDEX, ~tokens.input_ids, tokens.input_ids)
    values[expanded(layout.tokens, layout.num_tokens)] = coded
    values.view(np.int16)[expanded(layout.codes, layout.num_codes)] = tokens.codes
    values.view(np.uint8)[expanded(layout.texts, layout.num_bytes)] = np.frombuffer(b"".join(texts), np.uint8)
    return values, layout.sizes.astype(np.int32)


def from_records(values: Int32, sizes: Int32) -> RowTokens:
    """Read rows of their records, one after another: values [V], of which each row has `sizes` [R] blocks.

    Raises:
        ShortfallError: their codes are of several codecs.
    """
    heads = values[BLOCK * (np.cumsum(sizes) - sizes) + _FIELDS]
    layout = _Layout.of(heads.astype(np.int64))
    coded = _joined(values, layout.tokens, layout.num_tokens)
    text, (num_tokens, num_frames, codecs, id_bytes, note_bytes) = values.tobytes(), heads
    row_ids = _texts(text, layout.texts, id_bytes)
    code_rows = np.flatnonzero(codecs).astype(np.int32)
    return RowTokens(
        row_ids=row_ids,
        num_tokens=num_tokens,
        input_ids=np.maximum(coded, ~coded),
        labels=np.where(coded < 0, IGNORE_INDEX, coded),
        codec=_one_codec(codecs[code_rows], code_rows, row_ids),
        codes=_joined(values.view(np.int16), layout.codes[code_rows], layout.num_codes[code_rows]),
        num_frames=num_frames[code_rows],
        code_rows=code_rows,
        notes=_texts(text, layout.texts + id_bytes, note_bytes) if note_bytes.any() else (),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where R records that lie one after another have what; each array is [R]."""

    begins: Int64
    tokens: Int64  # the place of the first token
    num_tokens: Int64
    codes: Int64  # the place of the first code, in int16
    num_codes: Int64
    texts: Int64  # the place of the first byte of the id
    num_bytes: Int64  # of the id and the note
    sizes: Int64  # blocks

    @staticmethod
    def of(heads: Int64) -> "_Layout":
        """That of records with these heads [_HEAD, R]."""
        num_tokens, num_frames, codecs, id_bytes, note_bytes = heads
        num_codes, num_bytes = _NUM_CODEBOOKS[codecs] * num_frames, id_bytes + note_bytes
        before_codes, before_texts = _HEAD + num_tokens, _HEAD + num_tokens + -(-num_codes // 2)
        sizes = -(-(before_texts + -(-num_bytes // 4)) // BLOCK)
        ends = BLOCK * np.cumsum(sizes)
        begins = ends - BLOCK * sizes
        return _Layout(
            begins, begins + _HEAD, num_tokens, 2 * (begins + before_codes), num_codes,
            4 * (begins + before_texts), num_bytes, sizes,
        )  # fmt: skip


def _joined(values: npt.NDArray[S], begins: Int64, sizes: Int64) -> npt.NDArray[S]:
    """Ranges of values, one after another: in many short copies, for which numpy keeps Python's lock."""
    places = zip(begins.tolist(), (begins + sizes).tolist(), strict=True)
    return np.concatenate([values[:0], *[values[begin:end] for begin, end in places]])


def _texts(data: bytes, begins: Int64, sizes: npt.NDArray[np.integer]) -> tuple[str, ...]:
    places = zip(begins.tolist(), (begins + sizes).tolist(), strict=True)
    return tuple([data[begin:end].decode() for begin, end in places])


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
