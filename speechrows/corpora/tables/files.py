"""Which files of a folder are tables, and of which split each is."""

import fnmatch
import re
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace

from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import basename
from speechrows.corpora.entries import folder_of
from speechrows.corpora.folder import Corpus
from speechrows.corpora.tables.arrow import ArrowTable
from speechrows.corpora.tables.folders import FolderTable
from speechrows.corpora.tables.folders import text_beside
from speechrows.corpora.tables.lines import LineTable
from speechrows.corpora.tables.records import Table
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.tables.samples import SampleTable
from speechrows.corpora.turns import is_audio
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean

TRANSCRIPTS = "trans.txt"  # of LibriSpeech
_ARROW, ARCHIVES = ("parquet", "arrow"), ("tar", "tar.gz", "tgz")
FORMATS = (*_ARROW, *ARCHIVES, "csv", "tsv", "jsonl", "ndjson", TRANSCRIPTS)  # by the ends of names
_END = re.compile(r"\.(" + "|".join(map(re.escape, FORMATS)) + ")$", re.IGNORECASE)
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.\w+)")
FOLDER = "folder"  # of clips with a text beside each: a table of its own kind
_SPLIT_OF = {  # as datasets tells splits by words in names
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def split_of_words(words: str) -> str | None:
    """The split that a word of a name, or of a cell, tells, as in "train-00000-of-00002"."""
    splits = [_SPLIT_OF[word] for word in re.split("[^a-z]+", words.lower()) if word in _SPLIT_OF]
    return splits[0] if splits else None


def split_of_path(path: str) -> str | None:
    """The split of a file: by its name, else by its folders', the nearest first."""
    parts = reversed(path.split("/"))
    return next((split for part in parts if (split := split_of_words(part))), None)


def find_tables(entries: Iterable[Entry], patterns: Sequence[str] = ()) -> list[TableFile]:
    """The tables of a folder, those alone whose paths match one of the `patterns`, if there are any.

    Raises:
        UsageError: they are of several formats, and no one said which; or a pattern matches none.
    """
    files = [entry for entry in entries if not entry.refused]
    tables: list[TableFile] = []
    for entry in files:
        kind = _format_of(entry.path)
        if kind is not None and not basename(entry.path).startswith(("cache-", "tmp")):  # of datasets' map
            split = split_of_path(entry.path)
            tables.append(TableFile(path=entry.path, num_bytes=entry.num_bytes, kind=kind, split=split))
    if any(table.kind == TRANSCRIPTS for table in tables):
        suffixes = {folder_of(e.path): e.path[e.path.rindex(".") :] for e in files if is_audio(e.path)}
        tables = [replace(table, suffix=suffixes.get(table.folder, ".flac")) for table in tables]
    if patterns:
        return matching(tables, patterns, "--table")
    kinds = {table.kind: table.path for table in reversed(tables)}
    if len(kinds) > 1:
        paths = ", ".join(path for _, path in sorted(kinds.items()))
        raise UsageError(
            f"found tables of {len(kinds)} formats ({paths}), expected one; say which are read: "
            f"--table '*.{min(kinds)}'"
        )
    return tables or _folders(files)


def _format_of(path: str) -> str | None:
    match = _END.search(path)
    return match[1].lower() if match else None


def matching(files: Sequence[TableFile], patterns: Sequence[str], flag: str) -> list[TableFile]:
    """The files whose paths match one of the `patterns` of a `flag`.

    Raises:
        UsageError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(file.path, pattern) for file in files):
            known = [file.path for file in files]
            raise UsageError(
                f"{flag} {pattern}: no file matches; found {', '.join(known[:5]) or 'none'}"
                f"{' and others' if len(known) > 5 else ''}{did_you_mean(pattern, known)}"
            )
    return [file for file in files if any(fnmatch.fnmatchcase(file.path, pattern) for pattern in patterns)]


def _folders(files: Sequence[Entry]) -> list[TableFile]:
    """The folders of clips, where any of these has its text beside it."""
    clips: dict[str, list[Entry]] = {}
    for entry in files:
        if is_audio(entry.path):
            clips.setdefault(folder_of(entry.path), []).append(entry)
    paths = {entry.path for entry in files}
    return [
        TableFile(
            path=folder,
            num_bytes=sum(clip.num_bytes for clip in own),
            kind=FOLDER,
            split=split_of_path(folder),
            clips=tuple(clip.path for clip in own),
        )
        for folder, own in clips.items()
        if any(text_beside(clip.path) in paths for clip in own)
    ]


def missing_shards(tables: Iterable[TableFile]) -> list[str]:
    """The tables that others tell of by their names, as train-00000-of-00002, and that are not there."""
    paths = {table.path for table in tables}
    numbers = filter(None, (_SHARD.fullmatch(path) for path in paths))
    expected = {
        f"{match[1]}-{number:05}-of-{match[2]}{match[3]}"
        for match in {match.expand(r"\1 \2 \3"): match for match in numbers}.values()
        for number in range(int(match[2]))
    }
    return sorted(expected - paths)


def open_table(corpus: Corpus, file: TableFile) -> Table:
    """Open a table, of any format."""
    if file.kind in _ARROW:
        return ArrowTable(corpus, file)
    if file.kind in ARCHIVES:
        return SampleTable(corpus, file)
    return FolderTable(corpus, file) if file.kind == FOLDER else LineTable(corpus, file)
