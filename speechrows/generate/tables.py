"""Reads clips from parquet: a folder that `speechrows build` wrote, or any other, here or on the Hub."""

import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speechrows.corpora import traits
from speechrows.corpora.cells import clip_cells
from speechrows.corpora.cells import holds_clips
from speechrows.corpora.folder import Corpus
from speechrows.corpora.parquet import BrokenFileError
from speechrows.corpora.parquet import open_table
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.flags import BUILDERS
from speechrows.generate.clip import InputClip
from speechrows.generate.clip import LazyAudio
from speechrows.storage.filesystem import is_local
from speechrows.storage.filesystem import locate
from speechrows.types import TRAITS
from speechrows.types import AudioRef
from speechrows.types import Traits

_SIZES = ("sampling_rate", "num_samples")  # a build has checked them
_BATCH = 1024  # rows at once
_BATCH_WITH_AUDIO = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipTables:
    """The parquet files of a folder, with the names of their columns."""

    corpus: Corpus
    files: Sequence[str]
    is_built: bool
    id_column: str
    text_column: str
    audio_column: str

    @property
    def ids_in(self) -> str | None:
        """The column whose ids have to differ; None of a built folder, where tasks share clips."""
        return None if self.is_built else f"{self.corpus.root}: column {self.id_column}"

    def clips(self, *, audio: bool) -> Iterator[InputClip]:
        """Yield the clip of every row of every file."""
        for number, path in enumerate(self.files):
            try:
                with open_table(self.corpus, path) as table:
                    yield from self._clips(path, table, number, audio)
            except BrokenFileError as error:
                raise UsageError(f"{path}: {error}") from error

    def _clips(self, path: str, table: pq.ParquetFile, number: int, audio: bool) -> Iterator[InputClip]:
        names = self._columns(path, table.schema_arrow, audio)
        num_read = 0
        size = _BATCH_WITH_AUDIO if audio else _BATCH
        for batch in table.iter_batches(size, columns=names, use_threads=False):
            cells = {name: batch[name].to_pylist() for name in names if name != self.audio_column}
            audios = list(self._audio(path, num_read, batch[self.audio_column])) if audio else []
            for i in range(len(batch)):
                num_read += 1
                yield InputClip(
                    clip_id=self._id(path, num_read, cells[self.id_column][i]),
                    text=cells[self.text_column][i] or "",
                    traits=self._traits({name: cells[name][i] for name in TRAITS if name in cells}),
                    audio=audios[i] if audio else None,
                    share=(number + num_read / table.metadata.num_rows) / len(self.files),
                    **{name: cells[name][i] for name in _SIZES if self.is_built},
                )

    def _columns(self, path: str, schema: pa.Schema, audio: bool) -> list[str]:
        """The columns to read. Raises UsageError where one is missing or of another type."""
        wanted = [("--id-column", self.id_column), ("--text-column", self.text_column)]
        wanted += [("--audio-column", self.audio_column)] if audio else []
        for flag, name in wanted:
            if schema.names.count(name) != 1:
                raise UsageError(
                    f"{path}: has the columns {', '.join(schema.names)}; expected one called {name}. Name "
                    f"yours with {flag}"
                )
        kind = schema.field(self.text_column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UsageError(f"{path}: found {kind} in column {self.text_column}, expected strings")
        kind = schema.field(self.audio_column).type if audio else pa.binary()
        if not holds_clips(kind):
            raise UsageError(
                f"{path}: found {kind} in column {self.audio_column}, expected bytes, or bytes and path as "
                "datasets' Audio writes them, or array and sampling_rate"
            )
        optional = [*TRAITS, *_SIZES] if self.is_built else TRAITS
        present = [name for name in optional if schema.names.count(name) == 1]
        return list(dict.fromkeys([name for _, name in wanted] + present))

    def _id(self, path: str, row: int, value: Any) -> str:
        if value is None or value == "":
            raise UsageError(f"{path}: row {row}: found no id in column {self.id_column}; expected one")
        return str(value)

    def _traits(self, cells: Mapping[str, Any]) -> Traits:
        if self.is_built:
            return Traits(**cells)
        renamed = {"volume": "relative_db", "pace": "speaking_rate"}
        return traits.normalise(**{renamed.get(name, name): value for name, value in cells.items()})

    def _audio(self, path: str, num_read: int, column: Any) -> Iterator[LazyAudio]:
        """The audio of cells: bytes where the table holds them, else the file that it names."""
        for i, (data, file) in enumerate(clip_cells(column)):
            inside = f"{path}/{file or num_read + i}"
            if data is not None or not file:
                yield LazyAudio(ref=AudioRef(path=inside, data=data))
                continue
            try:
                beside = self.corpus.resolve(path.rpartition("/")[0], file)
            except BadClipError:
                yield LazyAudio(ref=AudioRef(path=inside))  # it leads out of the folder: no clip is there
            else:
                yield LazyAudio(ref=AudioRef(path=beside), corpus=self.corpus)


def open_tables(
    address: str, *, split: str | None, columns: tuple[str | None, str | None, str | None]
) -> ClipTables:
    """Open the parquet of a folder, an fsspec address, or a Hub dataset `org/name`.

    Of any parquet, `split` is looked for as a word in the files' paths, as the Hub does.

    Raises:
        UsageError: there is none.
    """
    try:
        fs, root = locate(address)
    except UsageError as error:
        raise UsageError(
            f"--source {error}, nor a builder; expected a built folder, org/name, a builder such as "
            f"deepdialogue_ttt with --data-dir, or a folder of parquet{did_you_mean(address, BUILDERS)}"
        ) from error
    corpus = Corpus.open(root if is_local(fs) else fs.unstrip_protocol(root), flag="--source")
    files = [entry.path for entry in corpus.list() if entry.path.endswith(".parquet")]
    is_built = any(re.fullmatch(r"index/[^/]+/[^/]+\.parquet", path) for path in files)
    if is_built:
        files = [path for path in files if path.startswith("data/")]
    if split is not None:
        word = re.compile(rf"(^|[/._-]){re.escape(split)}([/._-]|$)")
        files = [path for path in files if word.search(path)]
    if not files:
        raise UsageError(
            f"--source {address}: found no parquet" + (f" of split {split}" if split else "") + " there"
        )
    ids, text, audio = columns
    return ClipTables(
        corpus=corpus,
        files=files,
        is_built=is_built,
        id_column=ids or "clip_id",
        text_column=text or ("transcript" if is_built else "text"),
        audio_column=audio or "audio",
    )
