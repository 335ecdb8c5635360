"""Models and tokenizers by name: a folder here, a repository of the Hub, or what its cache keeps of one."""

import os

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import HFValidationError
from huggingface_hub.utils import validate_repo_id

from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.storage.filesystem import absent_here
from speechrows.storage.filesystem import is_place_here
from speechrows.storage.hub import unreachable


def is_from_cache(name: str, flag: str) -> bool:
    """Whether a model can come from the Hub's cache alone: as `local_files_only`, nobody tries for a minute.

    Raises:
        UsageError: it can only be a folder here, and there is none.
        StoreError: it is no folder here, nothing of it is in the cache, and the Hub can not be reached.
    """
    if os.path.exists(name):
        return False
    if is_place_here(name) or not _is_repository(name):
        raise UsageError(
            f"{flag} {name}: {absent_here(name)}; expected a folder with a model's files, or a Hub repository"
        )
    why = unreachable()
    if why is None:
        return False
    kept = os.path.join(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model"))
    if not os.path.isdir(kept):
        raise StoreError(
            f"{flag} {name}: {absent_here(name)}, it is not in the Hub's cache, and the Hub can not be "
            f"reached ({why}). Get online and run the same again, or give a folder"
        )
    return True


def _is_repository(name: str) -> bool:
    """Whether a repository of the Hub can have a name."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
