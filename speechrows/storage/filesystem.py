"""File systems: a local folder, an fsspec address, or a dataset on the Hub."""

import os
import re
from collections.abc import Mapping
from typing import Any

from fsspec.core import url_to_fs
from huggingface_hub import HfApi
from huggingface_hub import HfFileSystem

from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.storage.hub import check_reachable
from speechrows.storage.retry import is_nobody

LOG_IN = "If it is private, log in with `hf auth login` or set HF_TOKEN, as someone who may read it"

_DATASET = re.compile(r"[\w-][\w.-]*/[\w.-]+(@.+)?")

# Where the Hub's client keeps a repository: files of a snapshot are symlinks to its blobs.
_SNAPSHOT = re.compile(r"(?P<cache>.*/\w+--[^/]+)/snapshots/[^/]+(/.*)?", re.DOTALL)


def locate(address: str) -> tuple[Any, str]:
    """The file system and root of a folder or fsspec address; without such a folder, of a Hub dataset.

    Raises:
        UsageError: there is no such folder, and no dataset of the Hub bears such a name.
        StoreError: it can be on the Hub alone, which can not be reached.
    """
    fs, root = open_store(address)
    if not is_local(fs) or "://" in address or fs.exists(root):
        return fs, root
    if is_place_here(address) or not _DATASET.fullmatch(address):
        raise UsageError(f"{address}: {absent_here(address)}")
    check_reachable(f"{address}: {absent_here(address)}, and")
    return url_to_fs(f"hf://datasets/{address}")


def path_text(path: object) -> str:
    """A folder's path or address as text.

    Raises:
        UsageError: it is neither.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise UsageError(f"found {path!r:.80} for a folder; expected its path, or a Hub dataset org/name")
    return text


def open_store(address: str) -> tuple[Any, str]:
    """The file system and root of a folder or fsspec address, whether it is there or not.

    Raises:
        UsageError: no file system has such addresses.
        StoreError: it is on the Hub, which can not be reached.
    """
    try:
        fs, root = url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{address}: {first_line(error)}; expected a folder, or an address that is read"
        ) from error
    if isinstance(fs, HfFileSystem):
        check_reachable(f"{address}:")
    return fs, root


def is_place_here(name: str) -> bool:
    """Whether a name that may be one of the Hub, `org/name`, can only mean a place on this machine."""
    first, *others = name.partition("@")[0].split("/")  # a revision may have slashes of its own
    return name.startswith((".", "/", "~")) or len(others) > 1 or (bool(others) and os.path.isdir(first))


def absent_here(name: str) -> str:
    """That there is no such folder here, in words; a relative path is nothing without where it begins."""
    return "no such folder" + ("" if os.path.isabs(os.path.expanduser(name)) else f" in {os.getcwd()}")


def pinned(fs: Any, root: str) -> tuple[str, str | None]:
    """The root of a Hub dataset at its present commit, and that commit; other roots as they are."""
    if not isinstance(fs, HfFileSystem):
        return root, None
    fs.invalidate_cache()  # what was missing may be there now
    at: Any = fs.resolve_path(root)
    if getattr(at, "repo_type", None) != "dataset":
        return root, None
    api = HfApi(endpoint=fs.endpoint, token=fs.token)
    commit = str(api.dataset_info(at.repo_id, revision=at.revision).sha)
    return f"datasets/{at.repo_id}@{commit}/{at.path_in_repo}", commit


def is_local(fs: Any) -> bool:
    """Whether the files of a file system are on this machine."""
    return fs.protocol in ("file", ("file", "local"))


def is_refusal(error: Exception) -> bool:
    """True for not-found and forbidden, which the Hub does not tell apart, and where nobody asks."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    is_one = isinstance(error, FileNotFoundError | PermissionError) or is_nobody(error)
    return is_one or status in (401, 403, 404)


def how_to_log_in(fs: Any) -> str:
    """What to do where a store refuses, in a sentence."""
    return LOG_IN if isinstance(fs, HfFileSystem) else "Give its client credentials, of someone who may"


def check_link(root: str, path: str, address: str) -> None:
    """Refuse a file of a folder on this machine that a symlink takes from somewhere else.

    Raises:
        UsageError: it names the folder `address`, and the path.
    """
    top = os.path.realpath(root)
    place = os.path.realpath(os.path.join(top, path))
    snapshot = _SNAPSHOT.fullmatch(top)
    homes = [top] if snapshot is None else [top, f"{snapshot['cache']}/blobs"]
    if not any(place.startswith(f"{home}/") for home in homes):
        raise UsageError(
            f"{address}: {path} is, or lies behind, a symlink that leads out of the folder; put the file "
            "itself in its place"
        )


def refused(fs: Any, address: str, error: Exception) -> str:
    """In words: that an address can not be read by whoever asks, or is nowhere."""
    if not isinstance(fs, HfFileSystem):
        return (
            f"{address}: found {first_line(error)}; expected a folder that can be read. {how_to_log_in(fs)}"
        )
    here = "" if "://" in address else f"{absent_here(address)}, and "
    return f"{address}: {here}no such dataset on the Hub ({first_line(error)}). {LOG_IN}"


def of_this_process(fs: Any) -> Any:
    """A file system, as a process that was forked may use it: a client of a store is of one process."""
    if getattr(fs, "_pid", os.getpid()) == os.getpid():
        return fs
    return type(fs)(*fs.storage_args, **fs.storage_options)  # fsspec makes one a process


def stamp_of(info: Mapping[str, Any]) -> str:
    """What a store tells of a file that changes with its content; "" where it tells nothing of the kind."""
    for key in ("blob_id", "ETag", "etag", "LastModified", "mtime", "created"):
        if info.get(key) is not None:
            return str(info[key])
    return ""
