"""Selects the clips that `generate` makes values for: of a built folder, of a corpus, or of any parquet.

--source is one of three, told apart by what is there:
  a built folder    rows/deepdialogue_ttt, or org/name on the Hub: its own clip_ids
  a corpus          a BUILDER (a module or a .py) with --data-dir: clip_ids as its rows will have
  any parquet       a folder or org/name, with --id-column, --text-column, --audio-column
Each clip comes once, in an order that follows from --source alone. Its text comes with it; its audio
only when asked for: without, its column is not read.
"""

import argparse
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields
from typing import Any

from speechrows.errors import UsageError
from speechrows.generate.clip import InputClip
from speechrows.generate.corpora import corpus_clips
from speechrows.generate.corpora import open_builder
from speechrows.generate.tables import open_tables


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSelection:
    """Which clips to make values for, as the flags of `generate` name them."""

    address: str
    data_dir: str | None = None
    config: str | None = None
    settings: tuple[str, ...] = ()  # of a builder, as NAME=VALUE
    split: str | None = None
    id_column: str | None = None
    text_column: str | None = None
    audio_column: str | None = None

    @staticmethod
    def of(options: argparse.Namespace) -> "ClipSelection":
        """The selection of parsed flags."""
        names = [field.name for field in fields(ClipSelection) if field.name != "address"]
        kwargs: dict[str, Any] = {name: getattr(options, name) for name in names}
        kwargs["settings"] = tuple(options.settings)
        return ClipSelection(address=options.source, **kwargs)

    def clips(self, *, audio: bool) -> Iterator[InputClip]:
        """Yield every clip once, with its audio where `audio`; faulty turns are left out.

        Raises:
            UsageError: there is nothing to read, a column is missing, or a clip has no id or that of another.
        """
        if self._is_corpus():
            builder = open_builder(self.address, self.config, self.data_dir, self.settings)
            return self._once(corpus_clips(builder, self.split, audio=audio), None)
        tables = open_tables(
            self.address,
            split=self.split,
            columns=(self.id_column, self.text_column, self.audio_column),
        )
        return self._once(tables.clips(audio=audio), tables.ids_in)

    def _is_corpus(self) -> bool:
        if self.data_dir is not None or self.address.endswith(".py"):
            return True
        if os.path.isdir(self.address) or "/" in self.address:
            return False
        return importlib.util.find_spec(self.address.partition(".")[0]) is not None

    def _once(self, clips: Iterator[InputClip], ids_in: str | None) -> Iterator[InputClip]:
        """Drop repeated clips: tasks share theirs, but in a column of ids (`ids_in`) each must differ."""
        seen: set[int] = set()  # hashes: their odds stand at SidecarWriter.__contains__
        for clip in clips:
            key = hash(clip.clip_id)
            if key not in seen:
                seen.add(key)
                yield clip
            elif ids_in is not None:
                raise UsageError(f"{ids_in}: found {clip.clip_id!r:.120} twice; expected one id a clip")
        if not seen:
            where = f" of split {self.split}" if self.split else ""
            raise UsageError(f"--source {self.address}: found no clip{where}; expected one at least")
