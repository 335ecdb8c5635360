"""File systems: a local folder, an fsspec address, or a dataset on the Hub."""

import re
from typing import Any

from fsspec.core import url_to_fs

LOG_IN = "If it is private, log in with `hf auth login` or set HF_TOKEN, as someone who may read it"


def locate(address: str) -> tuple[Any, str]:
    """The file system and root of a folder or fsspec address; without such a folder, of a Hub dataset."""
    fs, root = url_to_fs(address)
    if not fs.isdir(root) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@.+)?", address):
        return url_to_fs(f"hf://datasets/{address}")
    return fs, root


def is_local(fs: Any) -> bool:
    """Whether the files of a file system are on this machine."""
    return fs.protocol in ("file", ("file", "local"))


def is_refusal(error: Exception) -> bool:
    """True for not-found and forbidden, which the Hub does not tell apart."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, FileNotFoundError | PermissionError) or status in (401, 403, 404)
