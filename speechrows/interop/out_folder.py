"""The folder that an export writes: what is finished in it, and what a killed one left."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechrows.errors import UsageError
from speechrows.interop.parts import Part
from speechrows.interop.summary import Tally

STATE = ".export"  # in the folder until the export is finished, and not after


@dataclass(frozen=True, kw_only=True, slots=True)
class OutFolder:
    """A folder for an export's files, with the state of an unfinished one in `.export`.

    `recipe` says what is exported and how: an export goes on only where it is the same. The summary lies
    beside the folder: peers take every file in theirs for data.
    """

    out: Path
    recipe: dict[str, Any]

    @property
    def state(self) -> Path:
        """The folder of what is not finished."""
        return self.out / STATE

    @property
    def summary_file(self) -> Path:
        """Where the summary lies once all is written."""
        out = self.out.absolute()
        return out.with_name(f"{out.name}.export.json")

    @property
    def digest(self) -> str:
        """A digest of the recipe."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()[:32]

    def finished(self) -> dict[str, Any] | None:
        """The summary of this very export, if it is finished; None where there is something to write.

        Raises:
            UsageError: the folder has files of another export, or of none.
        """
        if self.state.exists() or not self.out.exists() or not any(self.out.iterdir()):
            return None
        summary = _read(self.summary_file)
        files, num_bytes = self.size()
        if summary.get("recipe") != self.digest:
            raise UsageError(
                f"{self.out}: there already, of something else; expected a folder for new files. Give "
                "another --out"
            )
        if [files, num_bytes] != [summary.get("files"), summary.get("bytes")]:
            raise UsageError(
                f"{self.out}: found {files} files of {num_bytes} bytes; expected {summary.get('files')} of "
                f"{summary.get('bytes')}, as they were written. Remove the folder, or give another --out"
            )
        return summary

    def size(self) -> tuple[int, int]:
        """The files of the folder and their bytes."""
        sizes = [path.stat().st_size for path in self.out.rglob("*") if path.is_file()]
        return len(sizes), sum(sizes)

    @contextmanager
    def opened(self) -> Generator[None]:
        """Hold the folder to write in it; what a killed export left half written is removed.

        Raises:
            UsageError: another export writes here, or an unfinished one of something else lies here.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{self.out}: another export is writing here; wait for it to end") from None
            recipe = self.state / "recipe.json"
            if recipe.exists() and _read(recipe) != self.recipe:
                raise UsageError(
                    f"{self.out}: has an unfinished export of something else, or with other flags; expected "
                    "the same command. Give another --out, or remove the folder"
                )
            for path in self.state.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif not recipe.exists() and path.name != "lock":  # it was killed while it removed them
                    path.unlink()
            write_text(recipe, json.dumps(self.recipe))
            yield
        finally:
            os.close(lock)

    def tally_of(self, part: Part) -> Tally | None:
        """What was counted of a part; None where it is not written."""
        path = self.state / f"{part.name}.json"
        return Tally.from_json(_read(path)) if path.exists() else None

    @contextmanager
    def place_of(self, part: Part) -> Generator[Path]:
        """A new folder for the files of a part, which are renamed into the export's once all are written."""
        place = self.state / f"{part.name}.{os.getpid()}"
        place.mkdir()
        yield place
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            final = self.out / path.relative_to(place)
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)
        shutil.rmtree(place)

    def commit(self, part: Part, tally: Tally) -> None:
        """Note that the files of a part are in their place."""
        write_text(self.state / f"{part.name}.json", json.dumps(tally.to_json()))

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary, and remove the state."""
        write_text(self.summary_file, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
        (self.state / "recipe.json").unlink()
        shutil.rmtree(self.state)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
