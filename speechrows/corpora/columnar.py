"""A repository of parquet as an entry of a table: its columns, the files of it, what these hold.

A `Source` is such an entry. `find` sorts the files of a corpus by source; `survey` looks at the small
columns of a source's files together; utterances.py reads a file. A corpus module has the table.
"""

import re
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any
from typing import NamedTuple

import pyarrow as pa

from speechrows.corpora import parquet
from speechrows.corpora import traits
from speechrows.corpora.cells import holds_clips
from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Unit
from speechrows.errors import UsageError

_IDS = ("string", "large_string", "string_view", "integer", "null")
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}")  # <split>-00000-of-00003
_TRAIN_ALONE = {"train": "train"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column, or what the first group of a pattern matches in its cells."""

    name: str
    pattern: str | None = None

    def value(self, row: Mapping[str, Any]) -> str | None:
        """The text of a row's cell; None where it is empty, or the pattern does not match."""
        cell = row.get(self.name)
        if cell in (None, ""):
            return None
        if self.pattern is None:
            return str(cell)
        match = re.search(self.pattern, str(cell))
        return match[1] if match else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A repository of the Hub and what its columns are. The names of columns are the publisher's.

    Attributes:
        repository: its name on the Hub, `<org>/<name>`.
        tasks: those that its rows are for.
        folders: those of it that are read, "" its root.
        splits: the publisher's names of splits that are read -> ours.
        answer: a text, or SQuAD's list of answers, whose first it is.
        impossible: whether a question has no answer.
        mode: the task that a row's answer is for.
        codes: Mimi's, lists of lists of integers.
        traits: columns by arguments of traits.normalise.
        votes: columns of emotions, each with the share of listeners who heard it.
        apart: what never straddles train and validation; None where the publisher has split.
        apart_in: the publisher's splits in which that holds; all where it is empty.
    """

    repository: str
    licence: str
    citation: str
    tasks: tuple[str, ...]
    folders: tuple[str, ...] = ("data", "default", "")
    splits: Mapping[str, str] = field(default_factory=lambda: _TRAIN_ALONE)
    audio: str = "audio"
    text: str = "text"
    id: str | None = None
    speaker: Column | None = None
    answer: str | None = None
    impossible: str | None = None
    mode: str | None = None
    codes: str | None = None
    traits: Mapping[str, str] = field(default_factory=dict[str, str])
    votes: tuple[str, ...] = ()
    apart: Column | None = None
    apart_in: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The repository's, without the organisation."""
        return self.repository.rpartition("/")[2]

    @property
    def needed(self) -> list[str]:
        """The columns without which its rows can not be made."""
        names = [self.audio, self.text, self.id, self.answer, self.impossible, self.mode, self.codes]
        apart = self.apart.name if self.apart else None
        return list(dict.fromkeys(name for name in (*names, apart) if name))

    @property
    def wanted(self) -> list[str]:
        """The columns that are read where a file has them."""
        speaker = [self.speaker.name] if self.speaker else []
        return list(dict.fromkeys([*self.needed, *speaker, *self.traits.values(), *self.votes]))

    def inside(self, corpus_name: str, path: str) -> str:
        """The path of a corpus' file inside the repository; "" where it is a file of another."""
        if corpus_name == self.name:
            return path
        for prefix in (f"{self.repository}/", f"{self.name}/"):
            if path.startswith(prefix):
                return path.removeprefix(prefix)
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A parquet file of a source: what its path says, and what it has to know of the other files.

    Attributes:
        publishers_split: its split in the publisher's words; `split` is ours.
        stem: its name without the extension.
        apart: what of its rows never straddles train and validation; None where none becomes validation.
        repeats: the rows whose id an earlier row of the split has.
        pace_limits: an argument of traits.normalise, as `volume_limits` is.
    """

    source: Source = field(compare=False)
    path: str
    num_bytes: int
    publishers_split: str
    split: str
    stem: str
    apart: Column | None
    repeats: frozenset[int] = frozenset()
    pace_limits: tuple[float, float] = traits.PACE_LIMITS
    volume_limits: tuple[float, float] = traits.VOLUME_LIMITS

    @property
    def unit(self) -> "Unit[SourceFile]":
        """The file as a unit, which its reader opens itself."""
        splits = (self.split, "validation") if self.apart else (self.split,)
        return Unit(payload=self, opened=(self.path,), num_bytes=self.num_bytes, splits=splits)


def find(
    corpus_name: str, sources: Sequence[Source], entries: Iterable[Entry]
) -> tuple[dict[str, list[SourceFile]], dict[str, int]]:
    """The files of each source, and the number of its other parquet files, both by the source's name."""
    files: dict[str, list[SourceFile]] = {}
    num_unread: dict[str, int] = {}
    for entry in entries:
        source = next((source for source in sources if source.inside(corpus_name, entry.path)), None)
        if source is None or not entry.path.endswith(".parquet"):
            continue
        if file := _source_file(source, source.inside(corpus_name, entry.path), entry):
            files.setdefault(source.name, []).append(file)
        else:
            num_unread[source.name] = num_unread.get(source.name, 0) + 1
    return files, num_unread


def _source_file(source: Source, path: str, entry: Entry) -> SourceFile | None:
    """A file of a source by its path inside the repository; None where that is not read."""
    *folders, stem = path.removesuffix(".parquet").split("/")
    shard = _SHARD.match(stem)
    name = shard[1] if shard else stem
    if name not in source.splits and folders and folders[-1] in source.splits:
        name = folders.pop()  # <config>/<split>/0000, as the Hub converts
    split = source.splits.get(name) or source.splits.get(name.split(".")[0])  # train.clean.360
    if split is None or (folders[0] if folders else "") not in source.folders:
        return None
    may_move = split == "train" and (not source.apart_in or name in source.apart_in)
    return SourceFile(
        source=source,
        path=entry.path,
        num_bytes=entry.num_bytes,
        publishers_split=name,
        split=split,
        stem=stem,
        apart=source.apart if may_move else None,
    )


class Survey(NamedTuple):
    """The files of a source, which know of one another, and the columns that some of them lack."""

    files: tuple[SourceFile, ...]
    missing: list[str]


def survey(corpus: Corpus, files: Sequence[SourceFile], *, by_percentile: bool = False) -> Survey:
    """Look at the small columns of all files of one source.

    With `by_percentile`, limits of pace and volume are the quartiles of all its rows.

    Raises:
        UsageError: a file is there twice, lacks a column, or has one of a type that can not be it.
    """
    _refuse_copies(files)
    source = files[0].source
    rated = [source.traits.get(name) for name in ("speaking_rate", "relative_db") if by_percentile]

    def choose(path: str, schema: pa.Schema) -> list[str]:
        return [name for name in columns_of(source, path, schema) if name in (source.id, *rated)]

    tables = parquet.read_small_columns(corpus, [file.path for file in files], choose)
    repeats = _repeats(files, tables)
    limits = _limits(source, tables.values()) if by_percentile else {}
    missing = {
        name
        for table in tables.values()
        if table.schema is not None
        for name in source.wanted
        if name not in table.schema.names and name not in source.votes
    }
    surveyed = (replace(file, repeats=repeats.get(file.path, frozenset()), **limits) for file in files)
    return Survey(tuple(surveyed), sorted(missing))


def _refuse_copies(files: Sequence[SourceFile]) -> None:
    """Raises UsageError: two files would give their rows the same names."""
    paths: dict[tuple[str, str], str] = {}
    for file in files:
        first = paths.setdefault((file.publishers_split, file.stem), file.path)
        if first != file.path:
            raise UsageError(
                f"found {file.path} beside {first}; expected each file of {file.source.repository} once. "
                "Remove one, or give its folder as --data-dir"
            )


def _repeats(
    files: Sequence[SourceFile], tables: Mapping[str, parquet.SmallColumns]
) -> dict[str, frozenset[int]]:
    """The rows of each file, by path, whose id an earlier row of its split has."""
    splits: dict[str, dict[str, parquet.Array]] = {}  # the ids of each file that has any
    for file in files:
        ids = tables[file.path].columns.get(file.source.id or "")
        if ids is not None:
            splits.setdefault(file.publishers_split, {})[file.path] = ids
    return {
        path: frozenset(rows)
        for ids in splits.values()
        for path, rows in zip(ids, parquet.repeats(list(ids.values())), strict=True)
    }


def _limits(source: Source, tables: Collection[parquet.SmallColumns]) -> dict[str, tuple[float, float]]:
    """The quartiles of a source's pace and volume, as arguments of traits.normalise."""

    def numbers(argument: str) -> Iterator[float | None]:
        column = source.traits.get(argument, "")
        for table in tables:
            yield from parquet.numbers(table.columns[column]) if column in table.columns else ()

    return {
        "pace_limits": traits.pace_limits(numbers("speaking_rate")),
        "volume_limits": traits.volume_limits(numbers("relative_db")),
    }


def columns_of(source: Source, path: str, schema: pa.Schema) -> list[str]:
    """The columns of a file that are read.

    Raises:
        UsageError: one that is needed is not there, or is of a type that can not be it.
    """

    def refusal(column: str, expected: str) -> UsageError:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        return UsageError(
            f"{path}: has the columns {columns}; expected {column} {expected}, as {source.repository} "
            "publishes them. Rename or convert the column, or download the file again"
        )

    for column in source.needed:
        if schema.get_field_index(column) < 0:  # not there, or twice
            raise refusal(column, "once")
    audio = schema.field(source.audio).type
    if not holds_clips(audio):
        raise refusal(source.audio, "as a struct of bytes and path, or of array and sampling_rate")
    for column, kinds, expected in (
        (source.id, _IDS, "as a string"),
        (source.impossible, ("boolean", "null"), "as true or false"),
    ):
        if column and not parquet.is_a(_plain(schema.field(column).type), *kinds):
            raise refusal(column, expected)
    if source.codes and not parquet.is_list_of_lists(schema.field(source.codes).type, "integer", "null"):
        raise refusal(source.codes, "as a list of lists of integers")
    return [name for name in source.wanted if schema.get_field_index(name) >= 0]


def _plain(kind: Any) -> Any:
    return kind.value_type if parquet.is_a(kind, "dictionary") else kind
