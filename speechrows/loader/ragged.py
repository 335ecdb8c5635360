"""A micro-batch as it is read, on the host: one row after another, nothing padded."""

from collections.abc import Callable
from dataclasses import dataclass

from speechrows.loader.plan.values import MicroBatch
from speechrows.types import Int16
from speechrows.types import Int32


def _nothing() -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ragged:
    """R rows, N clips, T tokens, S samples, all in the order of `micro_batch.rows`.

    A row has at most one clip (none where its text has no `<audio>`), and codes or none. `samples` are
    valid until `release` is called: their buffer is then used again.
    """

    micro_batch: MicroBatch
    row_ids: tuple[str, ...]  # [R]
    tasks: tuple[str, ...]  # [R]
    turn_numbers: Int32  # [R]
    num_tokens: Int32  # [R]
    input_ids: Int32  # [T], without the padding that is stored
    labels: Int32  # [T]
    samples: Int16  # [S], one channel
    num_samples: Int32  # [N]
    sampling_rates: Int32  # [N]
    num_audio_tokens: Int32  # [N], placeholders of each clip
    clip_rows: Int32  # [N], places in row_ids
    codec: str | None  # of codec.CODECS; a batch has one
    codes: Int16  # [N_c frames x K], clip by clip, each [K, F] as it is stored
    num_frames: Int32  # [N_c]
    code_rows: Int32  # [N_c], places in row_ids
    notes: tuple[str, ...] = ()  # [R], what a view asked of rows (read/notes.py); or none
    release: Callable[[], None] = _nothing

    def __len__(self) -> int:
        return len(self.row_ids)
