"""What a folder is that has no index: one whose build has not finished, or none of speechrows."""

import contextlib
import json
import os

from speechrows.folder.layout import RECIPE


def without_index(root: str | None) -> str:
    """What a folder without an index is, in words, and what to do; `root` is its path, if it is here."""
    path = os.path.join(root or "", RECIPE)
    if root is None or not os.path.isfile(path):
        is_file = root is not None and os.path.isfile(root)
        what = "is a file" if is_file else "found no index/<task>/<split>.parquet"
        expected = "a folder that `speechrows build` wrote, or a Hub dataset published from one"
        return f"{what}; expected {expected}"
    begun = ""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError), open(path, "rb") as file:
        recipe = json.load(file)
        begun = f" of {recipe['builder']} {', '.join(recipe['tasks'])}"
    return f"unfinished build{begun}; run the same build command again to finish"
