"""The rows that a run reads, each folder and mix opened once."""

from collections.abc import Sequence

from speechrows.errors import UsageError
from speechrows.loader.load import open_rows
from speechrows.loader.opened_folder import OpenedFolder
from speechrows.loader.opened_mix import OpenedMix
from speechrows.mix.values import is_mix


def is_named(paths: Sequence[str]) -> bool:
    """Whether paths are one mix, by its file: its sources say their configs."""
    return len(paths) == 1 and is_mix(paths[0])


class OpenedRows:
    """Folders and mixes by their paths."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, ...], OpenedFolder | OpenedMix] = {}

    def open(
        self, path: str | Sequence[str], config: str, split: str
    ) -> tuple[OpenedFolder | OpenedMix, str, str]:
        """What `load` takes as path, config and split: of a mix, the last two are its own.

        Several paths are a mix of all their rows of the config and split.

        Raises:
            UsageError: see open_rows.
        """
        paths = (path,) if isinstance(path, str) else tuple(path)
        if len(paths) == 1 and not is_mix(paths[0]):
            opened = self._opened[paths] = self._opened.get(paths) or open_rows(paths[0])
            return opened, config, split
        if len(paths) > 1 and any(map(is_mix, paths)):
            raise UsageError(f"--data: found {', '.join(paths)}, expected one mix, or several folders")
        key = paths if len(paths) == 1 else (*paths, config, split)
        if key not in self._opened:
            self._opened[key] = OpenedMix(paths[0]) if len(paths) == 1 else OpenedMix(paths, config, split)
        return self._opened[key], "", "train"
