"""Where a corpus lies, when --data-dir names a folder above it, or inside it."""

import contextlib
import itertools
import os
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator

from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.errors import SpeechRowsError

_MOST_FOLDERS = 50  # below, that are looked into
_MOST_FILES = 20_000  # above, that are listed

# How much a builder finds to read in a corpus whose files these are.
NumUnits = Callable[[Corpus, list[Entry]], int]


def hint(corpus: Corpus, entries: list[Entry], num_units: NumUnits) -> str:
    """In words, which folder below or above a corpus on this machine looks like one; empty where none does.

    `entries` are the files of the `corpus`. Above it may be anything: of that, some are listed.
    """
    if corpus.local_path("") is None:
        return ""
    below = [root for root, files in _below(corpus, entries) if _read(root, files, num_units)]
    if below:
        return f". Below it, {', '.join(below)} looks like one: give --data-dir {below[0]}"
    above = os.path.dirname(corpus.root)
    files = sorted(itertools.islice(_files(above), _MOST_FILES))
    own = f"{os.path.basename(corpus.root)}/"
    others = [entry for entry in files if not entry.path.startswith(own)]
    if _read(above, files, num_units) > _read(above, others, num_units):  # else it is of another corpus
        return f". The folder above looks like one: give --data-dir {above}"
    return ""


def corpora_below(
    corpus: Corpus,
    entries: list[Entry],
    files: Collection[str],
    unreadable: Collection[str],
    num_units: NumUnits,
) -> list[str]:
    """The folders below a corpus on this machine that look like one each, where it is several and others.

    `files` are those that describe what it holds; those that can not be read are of other corpora, if
    each lies in folders where none can. Beside readable ones they are damaged: there is no such folder.
    """
    spoilt = {folder for file in unreadable for folder in _folders(file)}
    folders = {
        next((folder for folder in _folders(file) if folder not in spoilt), "")
        for file in {*files}.difference(unreadable)
    }
    if corpus.local_path("") is None or not spoilt or "" in folders:
        return []
    return [
        f"{corpus.root}/{folder}"
        for folder in sorted(folders)
        if _read(f"{corpus.root}/{folder}", _inside(folder, entries), num_units)
    ]


def _inside(folder: str, entries: list[Entry]) -> list[Entry]:
    start = f"{folder}/"
    return [
        entry._replace(path=entry.path.removeprefix(start))
        for entry in entries
        if entry.path.startswith(start)
    ]


def _folders(path: str) -> list[str]:
    """The folders that a file lies in, the outermost first."""
    return [path[:at] for at, letter in enumerate(path) if letter == "/"]


def _read(root: str, entries: list[Entry], num_units: NumUnits) -> int:
    try:
        return num_units(Corpus(root=root), entries)
    except SpeechRowsError:
        return 0


def _below(corpus: Corpus, entries: list[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    by_folder: dict[str, list[Entry]] = {}
    for entry in entries:
        folder, slash, path = entry.path.partition("/")
        if slash:
            by_folder.setdefault(folder, []).append(entry._replace(path=path))
    for folder, files in list(by_folder.items())[:_MOST_FOLDERS]:
        yield f"{corpus.root}/{folder}", files


def _files(root: str) -> Iterator[Entry]:
    for folder, _, names in os.walk(root):
        for name in names:
            place = os.path.join(folder, name)
            with contextlib.suppress(OSError):  # a symlink to nothing
                yield Entry(os.path.relpath(place, root), os.stat(place).st_size, "")
