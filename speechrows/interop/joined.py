"""The lines that parts of an export left, as one file a split."""

import shutil
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

from speechrows.interop.out_folder import STATE
from speechrows.interop.parts import Part


def joined(out: Path, parts: Sequence[Part]) -> Iterator[tuple[str, Path]]:
    """The splits that have lines, each with an unfinished file of all: whoever asks gives it its place.

    A part's lines are `.export/<part>.jsonl`.
    """
    for split in dict.fromkeys(part.split for part in parts):
        unfinished = out / STATE / f"{split}.jsonl"
        with unfinished.open("wb") as whole:
            for part in parts:
                if part.split == split:
                    with (out / STATE / f"{part.name}.jsonl").open("rb") as lines:
                        shutil.copyfileobj(lines, whole)
        if unfinished.stat().st_size:  # no peer opens a file without lines
            yield split, unfinished
