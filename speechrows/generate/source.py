"""The clips that `generate` makes values for: of a built folder, of a corpus, or of any parquet.

Three kinds of source, told apart by what is there:
  a built folder    rows/deepdialogue_ttt, or org/name on the Hub: its own clip_ids
  a corpus          a BUILDER (a module or a .py) with --data-dir: clip_ids as its rows will have
  any parquet       a folder or org/name, with --id-column, --text-column, --audio-column
Each clip comes once, in an order that follows from the source alone. Its text comes with it; its
audio only when asked for, and its column is not even read where nobody will ask.
"""

import argparse
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields
from typing import Any

from speechrows.errors import UsageError
from speechrows.generate.clip import LazyAudio
from speechrows.generate.clip import SourceClip
from speechrows.generate.corpora import corpus_clips
from speechrows.generate.corpora import open_builder
from speechrows.generate.tables import open_tables

__all__ = ["LazyAudio", "Source", "SourceClip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where clips come from, as the command line says it."""

    address: str
    data_dir: str | None = None
    config: str | None = None
    settings: tuple[str, ...] = ()  # of a builder, as NAME=VALUE
    split: str | None = None
    id_column: str | None = None
    text_column: str | None = None
    audio_column: str | None = None

    @staticmethod
    def of(options: argparse.Namespace) -> "Source":
        """The source that the flags of `generate` name."""
        names = [field.name for field in fields(Source) if field.name != "address"]
        told: dict[str, Any] = {name: getattr(options, name) for name in names}
        told["settings"] = tuple(options.settings)
        return Source(address=options.source, **told)

    def clips(self, *, audio: bool) -> Iterator[SourceClip]:
        """Every clip once, with its audio where `audio`. Faulty turns are not among them.

        Raises:
            UsageError: nothing to read is there, or columns are missing, or ids are no ids.
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

    def _once(self, found: Iterator[SourceClip], ids_in: str | None) -> Iterator[SourceClip]:
        """Each clip once: rows of several tasks share theirs, but a column of ids must have none twice."""
        seen: set[int] = set()  # hashes: their odds stand at Store.__contains__
        for clip in found:
            key = hash(clip.clip_id)
            if key not in seen:
                seen.add(key)
                yield clip
            elif ids_in is not None:
                raise UsageError(f"{ids_in}: found {clip.clip_id!r:.120} twice; expected one id a clip")
        if not seen:
            where = f" of split {self.split}" if self.split else ""
            raise UsageError(f"--source {self.address}: found no clip{where}; expected one at least")
