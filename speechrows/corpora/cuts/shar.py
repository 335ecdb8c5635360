"""SHAR, lhotse's folder of shards: cuts in lines, and beside them what each field of theirs holds.

cuts.000000.jsonl.gz, recording.000000.tar, target_audio.000000.tar, answer.000000.jsonl.gz; whatever else
lies there belongs to no shard.
"""

import contextlib
import posixpath
import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from speechrows.corpora.archives import Archives
from speechrows.corpora.archives import Item
from speechrows.corpora.chats.files import open_file
from speechrows.corpora.cuts.dialogues import RECORDING
from speechrows.corpora.cuts.records import TARGET
from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import basename
from speechrows.corpora.entries import folder_of
from speechrows.corpora.folder import Corpus
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.tar import Member
from speechrows.corpora.tar import members
from speechrows.corpora.turns import parse_json
from speechrows.types import AudioRef
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import UnreadableFile

_CUTS = re.compile(r"cuts(\..+)?\.jsonl(?:\.gz)?")
_FIELD = re.compile(r"([^.]+)(\..+)?(\.tar|\.jsonl(?:\.gz)?)")
_HEARD = (RECORDING, TARGET)  # the fields whose archives are read; features are not
_NO_VALUE = (".nodata", ".nometa")

Fields = Mapping[str, str]  # the files of a shard but for its cuts, by field


def shards(entries: Sequence[Entry]) -> dict[str, Fields]:
    """The files of each shard of SHAR, by the path of its cuts.

    Cuts without an archive beside them are a shard too, where others of their folder have any.
    """
    fields: dict[tuple[str, str], dict[str, str]] = {}
    cuts: dict[tuple[str, str], str] = {}
    for entry in entries:
        name, folder = basename(entry.path), folder_of(entry.path)
        if match := _CUTS.fullmatch(name):
            cuts[folder, match[1] or ""] = entry.path
        elif (match := _FIELD.fullmatch(name)) and not (match[3] == ".tar" and match[1] not in _HEARD):
            fields.setdefault((folder, match[2] or ""), {})[match[1]] = entry.path
    folders = {
        folder
        for (folder, suffix), own in fields.items()
        if (folder, suffix) in cuts and any(path.endswith(".tar") for path in own.values())
    }
    return {path: fields.get(key, {}) for key, path in cuts.items() if key[0] in folders}


class Shard:
    """What the fields of a shard hold, cut by cut."""

    def __init__(self, corpus: Corpus, fields: Fields) -> None:
        self._archives = {
            field: Archives(_items(corpus, path)) for field, path in fields.items() if path.endswith(".tar")
        }
        self._lines = {
            field: _Values(corpus, field, path)
            for field, path in fields.items()
            if field not in self._archives
        }
        self._fields = fields

    def fill(self, record: Record) -> tuple[Record, dict[str, AudioRef | Fault]]:
        """A cut with what its fields hold of it, and its clips by field."""
        cells, clips = dict(record.cells), dict[str, AudioRef | Fault]()
        name = posixpath.normpath(str(cells.get("id"))).lstrip("/")
        for field, archives in self._archives.items():
            clip = archives.take(name)
            if clip is None:
                clips[field] = self._missing(name, field, record)
            elif clip.audio is not None:
                clips[field] = clip.audio
                _put(cells, field, clip.facts or {})
        for field, values in self._lines.items():
            if (value := values.take(name)) is not None:
                _put(cells, field, value)
        return record._replace(cells=cells), clips

    @property
    def broken(self) -> Iterator[UnreadableFile]:
        """What of the shard's archives could not be read."""
        for archives in self._archives.values():
            yield from archives.broken

    def _missing(self, name: str, field: str, record: Record) -> Fault:
        path = self._fields[field]
        cut = "".join(f". It is not whole: {file.detail}" for file in self._archives[field].broken)
        detail = f"found no member {name!a:.200} in {basename(path)}, expected one{cut}"
        return Fault(reason=Reason.MISSING, detail=detail, file=record.place)


def _put(cells: dict[str, Any], field: str, value: Any) -> None:
    """Give a cut the value of a field; empty facts leave its own."""
    if field == RECORDING:
        cells[field] = value or cells.get(field)
    elif value:
        custom = cells.get("custom")
        cells["custom"] = {**(custom if isinstance(custom, dict) else {}), field: value}


def _items(corpus: Corpus, path: str) -> Iterator[Item | UnreadableFile]:
    """The values of an archive: members in pairs, the second of them the first's recording, in JSON."""
    last: Member | None = None
    for member in members(corpus, [path], takes_absolute=True):  # ids are names of files, often
        if isinstance(member, UnreadableFile):
            yield from [_item(last, path)] if last else []
            last = None
            yield member
        elif member.basename.startswith("."):  # what some systems leave beside a file
            continue
        elif last is not None and _key(last) == _key(member):
            yield _item(last, path, member)
            last = None
        else:
            yield from [_item(last, path)] if last else []
            last = member
    yield from [_item(last, path)] if last else []


def _item(member: Member, archive: str, beside: Member | None = None) -> Item:
    if member.name.endswith(_NO_VALUE):
        return Item(_key(member), None, archive)
    facts = None
    if beside is not None and beside.name.endswith(".json"):
        with contextlib.suppress(ValueError, RecursionError):  # the cut tells the same
            facts = parse_json(beside.data.decode(errors="surrogateescape"))
    return Item(_key(member), member, archive, facts if isinstance(facts, dict) else None)


def _key(member: Member) -> str:
    """The id of a member's cut: its name without what follows the last dot."""
    return member.name.rpartition(".")[0]


class _Values:
    """The values of a field in lines, in whichever order they are asked for."""

    def __init__(self, corpus: Corpus, field: str, path: str) -> None:
        file = TableFile(path=path, num_bytes=0, kind="jsonl")
        self._records, self._field = open_file(corpus, file).read((), None), field
        self._waiting: dict[str, Any] = {}

    def take(self, name: str) -> Any:
        """The value of a cut; None where the field has none of it."""
        while name not in self._waiting:
            record = next(self._records, None)
            if record is None:
                return None
            if isinstance(record, Record) and isinstance(record.cells.get("cut_id"), str):
                self._waiting[record.cells["cut_id"]] = record.cells.get(self._field)
        return self._waiting.pop(name)
