"""What rows say, and how that lies in a file: a record a row, read in any order, taken apart in bulk."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

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


def to_records(texts: Texts) -> Iterator[bytes]:
    """A row's record: head, tokens (inverted where unsupervised), codes, id; whole int16 words.

    Labels are those of `input_ids` where they are not -100.
    """
    coded = np.where(texts.labels == IGNORE_INDEX, ~texts.input_ids, texts.input_ids)
    num_frames, codec = np.zeros((2, len(texts.row_ids)), np.int32)
    num_frames[texts.code_rows] = texts.num_frames
    codec[texts.code_rows] = _CODECS.index(texts.codec)
    ids = [one.encode() for one in texts.row_ids]
    heads = np.stack([texts.num_tokens, num_frames, codec, [len(one) for one in ids]], 1, dtype=np.int32)
    tokens = np.append(0, np.cumsum(texts.num_tokens)).tolist()
    codes = np.append(0, np.cumsum(num_frames * _NUM_CODEBOOKS[codec])).tolist()
    for head, token, code, name in zip(heads, pairwise(tokens), pairwise(codes), ids, strict=True):
        arrays = head, coded[slice(*token)], texts.codes[slice(*code)]
        yield b"".join([array.tobytes() for array in arrays]) + name + bytes(len(name) % 2)


def to_texts(records: bytes, sizes: Int32) -> Texts:
    """The rows of records that follow one another, of `sizes` [R] bytes each.

    Raises:
        ShortfallError: their codes are of several codecs.
    """
    words = np.frombuffer(records, np.int16)
    ends = np.cumsum(sizes)
    heads = words[((ends - sizes) // 2)[:, None] + np.arange(2 * _HEAD)].view(np.int32)
    num_tokens, num_frames, codecs, id_bytes = np.ascontiguousarray(heads.T)
    parts = np.full((len(sizes), 4), 2 * _HEAD)
    parts[:, 1] = 2 * num_tokens
    parts[:, 2] = _NUM_CODEBOOKS[codecs] * num_frames
    parts[:, 3] = (id_bytes + 1) // 2
    kinds = np.repeat(np.tile(np.arange(4, dtype=np.int8), len(sizes)), parts.ravel())
    coded = words[kinds == 1].view(np.int32)
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
        codes=words[kinds == 2],
        num_frames=num_frames[code_rows],
        code_rows=code_rows,
    )


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
