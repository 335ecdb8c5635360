"""Which files of a built folder may be opened, whatever its card and indexes name.

A folder may come from anybody. What it names is opened only where a build would have written it: no
absolute path, no `..`, no address. (storage/filesystem.py refuses symlinks that lead out.)
"""

from speechrows.errors import UsageError
from speechrows.folder.layout import CARD
from speechrows.folder.layout import is_built
from speechrows.folder.layout import is_pattern_of_shards

_ANEW = "The folder was changed, or made to show other files: get it anew from someone you trust"


def check_name(path: str, address: str) -> None:
    """Refuse a path where no build writes a file.

    Raises:
        UsageError: it names the folder `address`, and the path.
    """
    if path != CARD and not is_built(path):
        raise UsageError(
            f"{address}: names the file {path!r:.200}, where no build writes one; expected data/<task>/…, "
            f"index/<task>/… and the like. {_ANEW}"
        )


def check_pattern(pattern: str, address: str) -> None:
    """Refuse a pattern of a card that lists anything but shards.

    Raises:
        UsageError: it names the folder `address`, and the pattern.
    """
    if not is_pattern_of_shards(pattern):
        raise UsageError(
            f"{address}: its {CARD} lists {pattern!r:.200}; expected data/<task>/<split>/…, of a task of "
            f"speechrows. {_ANEW}"
        )
