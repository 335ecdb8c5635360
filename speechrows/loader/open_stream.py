"""What reads an index' rows for a device: opened in each process that iterates over a loader."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from speechrows.errors import UsageError
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.read.clips import open_clips
from speechrows.loader.read.remote import WINDOW_BYTES
from speechrows.loader.read.row_store import RowStore
from speechrows.loader.read.rowgroup import ReadRowGroups
from speechrows.loader.read.rowgroup import verified
from speechrows.loader.read.stream import Stream
from speechrows.loader.read.stream import pageable
from speechrows.storage.block_cache import BlockCache
from speechrows.storage.cache import cache_folder
from speechrows.types import Int16


def stream_opener(
    index: IndexedRows,
    device: torch.device,
    *,
    read: ReadRowGroups,
    audio_id: int | None = None,
    window_bytes: int | None = None,
    cache_bytes: int | None = None,
    verify_checksums: bool = False,
    **options: Any,
) -> Callable[[], Stream]:
    """What opens a stream of an index' rows in the process that calls it; it can be pickled.

    `options` are those of `Stream`. Without `audio_id`, placeholders are not counted. With `cache_bytes`, of
    remote shards so many are kept on this machine's disk.

    Raises:
        UsageError: the cache can not be made.
    """
    cache = None
    if cache_bytes is not None and not index.is_local.all():
        cache = BlockCache.open(cache_folder() / "shards", cache_bytes)
    return partial(
        _open,
        index,
        read=verified(read) if verify_checksums else read,
        audio_id=audio_id,
        open_clips=partial(open_clips, window_bytes=window_bytes or WINDOW_BYTES, cache=cache),
        allocate=_pinned if device.type == "cuda" else pageable,
        **options,
    )


def _open(index: IndexedRows, *, read: ReadRowGroups, audio_id: int | None, **options: Any) -> Stream:
    store = RowStore(index, read_row_groups=read, audio_id=audio_id)
    return Stream(index, store=store, **options)


def _pinned(num_samples: int) -> Int16:
    return torch.empty(num_samples, dtype=torch.int16, pin_memory=True).numpy()


def checked_device(name: torch.device | str) -> torch.device:
    """A device by its name.

    Raises:
        UsageError: there is none of that name here.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"device: found {name!r}, expected cpu, cuda, cuda:1…") from error
    if device.type == "cuda" and (device.index or 0) >= (num_devices := torch.cuda.device_count()):
        raise UsageError(
            f"device: found {name!r}, expected cpu or one of the {num_devices} CUDA devices that are here"
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device: found {name!r}, which is not here; expected cpu, cuda, cuda:1…") from error
    return device
