"""File systems: a local folder, an fsspec address, or a dataset on the Hub."""

import os
import re
from typing import Any

from fsspec.core import url_to_fs
from huggingface_hub import HfApi
from huggingface_hub import HfFileSystem

from speechrows.errors import UsageError

LOG_IN = "If it is private, log in with `hf auth login` or set HF_TOKEN, as someone who may read it"

# Where the Hub's client keeps a repository: files of a snapshot are symlinks to its blobs.
_SNAPSHOT = re.compile(r"(?P<cache>.*/\w+--[^/]+)/snapshots/[^/]+(/.*)?", re.DOTALL)


def locate(address: str) -> tuple[Any, str]:
    """The file system and root of a folder or fsspec address; without such a folder, of a Hub dataset."""
    fs, root = url_to_fs(address)
    if not fs.isdir(root) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@.+)?", address):
        return url_to_fs(f"hf://datasets/{address}")
    return fs, root


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
    """True for not-found and forbidden, which the Hub does not tell apart."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, FileNotFoundError | PermissionError) or status in (401, 403, 404)


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
