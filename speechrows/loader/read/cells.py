"""A clip's cell of a shard, four bytes of length and the clip: to samples, or an error that names its row."""

from speechrows.errors import BadClipError
from speechrows.errors import ShortfallError
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.read.pcm import to_samples
from speechrows.loader.read.rowgroup import AGAIN
from speechrows.types import Int16
from speechrows.types import Reason

PREFIX = 4  # bytes of length before a clip, as PLAIN parquet has them


def cell_samples(index: IndexedRows, row: int, cell: bytes | memoryview) -> Int16:
    """Decode a row's clip to samples [S]; `cell` is its bytes behind the four of its length.

    Raises:
        ShortfallError: the clip is not what the index says.
    """
    length = int(index.audio_length[row])
    try:
        if len(cell) < PREFIX + length or int.from_bytes(cell[:PREFIX], "little") != length:
            place = f"{index.audio_offset[row]} of {index.shards[index.shard[row]].path}"
            detail = f"its {length} bytes are no longer at {place}: the file was changed"
            raise BadClipError(Reason.TRUNCATED, detail)
        clip = memoryview(cell)[PREFIX:]
        return to_samples(clip, int(index.num_samples[row]), int(index.sampling_rate[row]))
    except BadClipError as error:
        raise ShortfallError(f"{index.row_id(row)}: {error.detail}. {AGAIN}") from error
