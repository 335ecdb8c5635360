"""A clip as it lies in a shard, behind four bytes of length: to samples, or an error that names the row."""

from speechrows.errors import BadClipError
from speechrows.errors import ShortfallError
from speechrows.folder.index import Index
from speechrows.loader.read.pcm import to_samples
from speechrows.loader.read.rowgroup import AGAIN
from speechrows.types import Int16
from speechrows.types import Reason

PREFIX = 4  # bytes of length before a clip, as PLAIN parquet has them


def cell_samples(index: Index, row: int, cell: bytes | memoryview) -> Int16:
    """The samples [S] of a row's clip, given its bytes with those of its length before them.

    Raises:
        ShortfallError: they are not what the index says.
    """
    length = int(index.audio_length[row])
    try:
        if len(cell) < PREFIX + length or int.from_bytes(cell[:PREFIX], "little") != length:
            place = f"{index.audio_offset[row]} of {index.shards[index.shard[row]].path}"
            found = f"its {length} bytes are no longer at {place}: the file was changed"
            raise BadClipError(Reason.TRUNCATED, found)
        clip = memoryview(cell)[PREFIX:]
        return to_samples(clip, int(index.num_samples[row]), int(index.sampling_rate[row]))
    except BadClipError as error:
        raise ShortfallError(f"{index.row_id(row)}: {error.detail}. {AGAIN}") from error
