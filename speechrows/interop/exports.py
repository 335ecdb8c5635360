"""The formats of other tools that `speechrows export` writes: a table."""

import pkgutil
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """A format: what --help says of it, and the function that writes it, `module:name`.

    The function takes a built folder's address and the folder for new files, and returns the number of
    lines of each file that it wrote. It is imported when it is called.
    """

    help: str
    function: str


EXPORTS: Mapping[str, Export] = {
    "usdm": Export(help="USDM's own training files", function="speechrows.interop.usdm:export_usdm"),
}


def export(name: str, folder: str, out: Path) -> dict[str, int]:
    """Write a built folder in the format `name` of EXPORTS; the lines of each file.

    Raises:
        UsageError: the folder has no rows for it, or a file of the same name is there already.
    """
    write: Callable[[str, Path], dict[str, int]] = pkgutil.resolve_name(EXPORTS[name].function)
    return write(folder, out)
