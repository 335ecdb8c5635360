"""Files of the repository's top that are installed with the package: train.py, mixes/."""

from importlib.metadata import files
from pathlib import Path

from speechrows.errors import UsageError

_TOP = Path(__file__).parents[2]  # of a checkout; of an install, where packages lie
_SHARE = "share/speechrows"  # pyproject.toml's data-files


def shipped(path: str) -> Path:
    """The place of such a file: in the checkout, or where it is installed.

    Raises:
        UsageError: this install has none.
    """
    if (_TOP / "pyproject.toml").is_file():
        return _TOP / path
    installed = [Path(str(file.locate())) for file in files("speechrows") or () if _SHARE in str(file)]
    places = [_TOP / _SHARE / path, *(place for place in installed if place.as_posix().endswith(path))]
    for place in places:
        if place.is_file():
            return place.resolve()
    raise UsageError(f"{path}: found none that was installed with speechrows; install its wheel again")
