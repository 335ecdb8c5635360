"""What rows say, and how that lies in a file: a record a row, read in any order, taken apart in bulk."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechrows.codec import CODECS
from speechrows.errors import ShortfallError
from speechrows.types import IGNORE_INDEX
from speechrows.types import Int16
from speechrows.types import Int32

_HEAD = 4  # int32 before a row's tokens: tokens, frames, number of the codec (0 is none), bytes of the id
_CODECS = (None, *CODECS)
_NUM_CODEBOOKS = np.array([0, *(spec.num_codebooks for spec in CODECS.values())])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Texts:
    """What R rows say, T tokens in all: names and shapes as in Ragged."""

    row_ids: tuple[str, ...]  # [R]
    num_tokens: Int32  # [R]
    input_ids: Int32  # [T], without the padding that is stored
    labels: Int32  # [T]
    codec: str | None  # of CODECS
    codes: Int16  # [N_c frames x K], clip by clip, each [K, F]
    num_frames: Int32  # [N_c]
    code_rows: Int32  # [N_c], places in row_ids


def to_records(texts: Texts) -> tuple[bytes, Int32]:
    """The records of rows, one after another, and the bytes of each, [R].

    A record is a head, tokens (inverted where unsupervised), codes, the id; whole int16 words. Labels
    are those of `input_ids` where they are not -100.
    """
    ids = [one.encode() for one in texts.row_ids]
    heads = np.zeros((len(ids), _HEAD), np.int32)
    heads[:, 0] = texts.num_tokens
    heads[texts.code_rows, 1] = texts.num_frames
    heads[texts.code_rows, 2] = _CODECS.index(texts.codec)
    heads[:, 3] = [len(one) for one in ids]
    coded = np.where(texts.labels == IGNORE_INDEX, ~texts.input_ids, texts.input_ids)
    names = np.frombuffer(b"".join([one + bytes(len(one) % 2) for one in ids]), np.int16)
    parts, sizes = _parts(heads)
    words = np.empty(len(parts), np.int16)
    for part, values in enumerate((heads.ravel(), coded, texts.codes, names)):
        words[parts == part] = values.view(np.int16)
    return words.tobytes(), sizes


def to_texts(records: bytes, sizes: Int32) -> Texts:
    """The rows of records that follow one another, of `sizes` [R] bytes each.

    Raises:
        ShortfallError: their codes are of several codecs.
    """
    words = np.frombuffer(records, np.int16)
    ends = np.cumsum(sizes)
    heads = words[((ends - sizes) // 2)[:, None] + np.arange(2 * _HEAD)].view(np.int32)
    num_tokens, num_frames, codecs, id_bytes = np.ascontiguousarray(heads.T)
    parts, _ = _parts(heads)
    coded = words[parts == 1].view(np.int32)
    ends -= id_bytes % 2
    places = zip((ends - id_bytes).tolist(), ends.tolist(), strict=True)
    row_ids = tuple([records[begin:end].decode() for begin, end in places])
    code_rows = np.flatnonzero(codecs).astype(np.int32)
    return Texts(
        row_ids=row_ids,
        num_tokens=num_tokens,
        input_ids=np.where(coded < 0, ~coded, coded),
        labels=np.where(coded < 0, np.int32(IGNORE_INDEX), coded),
        codec=_one_codec(codecs[code_rows], code_rows, row_ids),
        codes=words[parts == 2],
        num_frames=num_frames[code_rows],
        code_rows=code_rows,
    )


def _parts(heads: Int32) -> tuple[npt.NDArray[np.int8], Int32]:
    """Of records with these heads: the part, 0 to 3, that each word is of; and the bytes of each record."""
    words = np.full((len(heads), 4), 2 * _HEAD)
    words[:, 1] = 2 * heads[:, 0]
    words[:, 2] = _NUM_CODEBOOKS[heads[:, 2]] * heads[:, 1]
    words[:, 3] = (heads[:, 3] + 1) // 2
    parts = np.repeat(np.tile(np.arange(4, dtype=np.int8), len(heads)), words.ravel())
    return parts, 2 * words.sum(1, dtype=np.int32)


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
