"""Files that hf_xet uploaded to a folder, in place of its servers, read back with hf_xet itself."""

import hashlib
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

_HEADER, _RECORD = 48, 48  # bytes: a shard's header, and every record of its file section
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30  # flags of a file's record


def xet_file(store: Path, sha256: str) -> tuple[bytes, str] | None:
    """An uploaded file and its Xet hash; None where the store has no such file."""
    info = _files(store).get(sha256)
    if info is None:
        return None
    xet_hash, size = info
    import hf_xet  # noqa: PLC0415  # a large library, for two tests

    expiry = int(time.time()) + 3600
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        with _session().new_file_download_group(
            endpoint=f"local://{store}", token="xet", token_expiry_unix_secs=expiry
        ) as downloads:
            downloads.start_download_file(hf_xet.XetFileInfo(xet_hash, size), str(file))
        data = file.read_bytes()
    assert hashlib.sha256(data).hexdigest() == sha256
    return data, xet_hash


@cache
def _session() -> Any:
    import hf_xet  # noqa: PLC0415

    return hf_xet.XetSession()


def _files(store: Path) -> dict[str, tuple[str, int]]:
    """The Xet hash and the size of every file, by SHA-256, from the shards that hf_xet wrote."""
    files: dict[str, tuple[str, int]] = {}
    for shard in store.rglob("*.mdb"):
        files |= _files_of_shard(shard.read_bytes())
    return files


def _files_of_shard(shard: bytes) -> dict[str, tuple[str, int]]:
    """A file is a record of its own, one of each piece, of each its verification, and one of metadata."""
    files: dict[str, tuple[str, int]] = {}
    at = _HEADER
    while at + _RECORD <= len(shard) and shard[at : at + 32] != b"\xff" * 32:
        xet_hash = _hash(shard[at : at + 32])
        flags, pieces = _number(shard, at + 32), _number(shard, at + 36)
        at += _RECORD
        size = sum(_number(shard, at + _RECORD * piece + 36) for piece in range(pieces))
        at += _RECORD * pieces * (2 if flags & _HAS_VERIFICATION else 1)
        if flags & _HAS_METADATA:
            files[_hash(shard[at : at + 32])] = (xet_hash, size)
            at += _RECORD
    return files


def _number(shard: bytes, at: int) -> int:
    return int.from_bytes(shard[at : at + 4], "little")


def _hash(digest: bytes) -> str:
    """Four little-endian 64-bit numbers, as hf_xet spells them."""
    words = (digest[at : at + 8] for at in range(0, 32, 8))
    return "".join(f"{int.from_bytes(word, 'little'):016x}" for word in words)
