"""The manifests of a folder, as units: of files, or each with the archive whose members it names.

manifest_0.json belongs to audio_0.tar beside it, or above its folder. One manifest of many archives tells
them apart by shard_id.
"""

import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from speechrows.corpora.archives import Archives
from speechrows.corpora.archives import Item
from speechrows.corpora.chats.files import Named
from speechrows.corpora.chats.files import RecordRun
from speechrows.corpora.chats.files import RecordStream
from speechrows.corpora.chats.files import find_files
from speechrows.corpora.chats.files import is_of_kind
from speechrows.corpora.chats.files import list_runs
from speechrows.corpora.chats.files import open_file
from speechrows.corpora.chats.files import with_kind
from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import basename
from speechrows.corpora.entries import folder_of
from speechrows.corpora.folder import Corpus
from speechrows.corpora.nemo.dialogues import Files
from speechrows.corpora.nemo.dialogues import LinePlace
from speechrows.corpora.nemo.dialogues import Members
from speechrows.corpora.nemo.dialogues import Nowhere
from speechrows.corpora.nemo.dialogues import Sounds
from speechrows.corpora.nemo.records import ManifestError
from speechrows.corpora.nemo.records import Sound
from speechrows.corpora.nemo.records import is_utterance
from speechrows.corpora.nemo.records import parse_conversation
from speechrows.corpora.nemo.records import parse_utterance
from speechrows.corpora.nemo.records import sounds_of
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Unit
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.tar import members
from speechrows.types import UnreadableFile

_MANIFEST = re.compile(r"manifest.*_(\d+).*\.jsonl?(?:\.gz)?")  # as NeMo tells shards by their names
_ARCHIVE = re.compile(r"audio.*_(\d+).*\.(?:tar|tar\.gz|tgz)")

_Tars = Mapping[tuple[str, int], str]  # by folder and number


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestRun:
    """Lines of a manifest that follow one another.

    With an `archive`, clips are its members. With a `shard`, the lines of that shard alone are meant.
    """

    run: RecordRun
    archive: str | None = None
    shard: int | None = None


def list_manifests(
    names: ClipNames, entries: Sequence[Entry], patterns: Sequence[str], *, has_chats: bool
) -> Listing[ManifestRun]:
    """The manifests of a folder: of utterances, and with `has_chats` of conversations."""
    entries = [entry for entry in entries if not entry.refused]
    files = [with_kind(names.corpus, file) for file in find_files(entries, patterns)]
    look = _look if has_chats else _look_at_utterance
    kept = [file for file in files if is_of_kind(names.corpus, file, look)]
    tars = {
        (folder_of(entry.path), int(match[1])): entry.path
        for entry in entries
        if (match := _ARCHIVE.fullmatch(basename(entry.path)))
    }
    shards = {file.path: tar for file in kept if (tar := _archive_of(file, tars))}
    joint = [file for file in kept if file.path not in shards and _is_joint(names.corpus, file, tars)]
    if shards and joint:  # it has the same lines as the manifests of its shards
        kept = [file for file in kept if file not in joint]
    whole = {*shards, *(file.path for file in joint)}
    runs, num_lines = list_runs(kept, names, entries, look, whole=whole)
    sizes = {entry.path: entry.num_bytes for entry in entries}
    units = list[Unit[ManifestRun]]()
    for unit in runs:
        run = unit.payload
        if run.file.path in shards:
            units.append(_unit(unit, ManifestRun(run=run, archive=shards[run.file.path]), sizes))
        elif run.file.path in whole:
            units += _by_shard(names.corpus, unit, tars, sizes)
        else:
            units.append(_unit(unit, ManifestRun(run=run), sizes))
    others = len(files) - len(kept)
    notes = f" ({others} other file{'s' * (others > 1)} of JSON: not read)" if others else ""
    where = kept[0].path if len(kept) == 1 else f"{len(kept)} manifests"
    archives = f" with {len({unit.payload.archive for unit in units} - {None})} archives" if whole else ""
    contents = f"{num_lines} lines of {where}{archives}{notes}" if kept else f"no manifest{notes}"
    return Listing(contents=contents, units=units)


def _unit(unit: Unit[RecordRun], payload: ManifestRun, sizes: Mapping[str, int]) -> Unit[ManifestRun]:
    archive = [payload.archive] if payload.archive else []
    return Unit(
        payload=payload,
        opened=(*unit.opened, *archive),
        files=unit.files,
        num_bytes=unit.num_bytes + sum(sizes[path] for path in archive),
        splits=unit.splits,
        in_stream=unit.in_stream and not archive,
    )


def _look(record: Record) -> Named:
    if is_utterance(record.cells):
        return _look_at_utterance(record)
    talk = parse_conversation(record.cells)
    return Named(talk.name, [_share(message.sound) for message in talk.messages if message.sound is not None])


def _look_at_utterance(record: Record) -> Named:
    utterance = parse_utterance(record.cells)
    return Named(utterance.name, [_share(utterance.sound)])


def _share(sound: Sound) -> tuple[object, float]:
    """A clip with how much of its file is meant, at most: the file does not end before its slice."""
    span = sound.span
    if span is None or span.seconds is None or not span.start_s:
        return sound.name, 1.0
    return sound.name, span.seconds / (span.start_s + span.seconds)


def _archive_of(file: TableFile, tars: _Tars) -> str | None:
    match = _MANIFEST.fullmatch(basename(file.path))
    if match is None:
        return None
    number, folder = int(match[1]), folder_of(file.path)
    return tars.get((folder, number)) or tars.get((folder_of(folder), number))


def _is_joint(corpus: Corpus, file: TableFile, tars: _Tars) -> bool:
    """Whether a manifest is one of several archives in its folder."""

    def look(record: Record) -> Named:
        if not isinstance(record.cells.get("shard_id"), int):
            raise ManifestError("found no shard_id, expected the number of an archive")
        return Named(None, ())

    return any(folder == folder_of(file.path) for folder, _ in tars) and is_of_kind(corpus, file, look)


def _by_shard(
    corpus: Corpus, unit: Unit[RecordRun], tars: _Tars, sizes: Mapping[str, int]
) -> Iterator[Unit[ManifestRun]]:
    """The units of a manifest's archives, each of the lines from its first to its last."""
    file, folder = unit.payload.file, folder_of(unit.payload.file.path)
    lines: dict[int, tuple[int, int, int]] = {}  # the first and last of a shard, and where the first begins
    for record in open_file(corpus, file).read((), None):
        if isinstance(record, Record):
            shard = _shard_of(record)
            first, _, offset = lines.get(shard, (record.number, 0, record.offset))
            lines[shard] = first, record.number, offset
    for shard, (first, last, offset) in sorted(lines.items()):
        run = replace(unit.payload, rows=range(first, last + 1), offset=offset, to_end=False)
        yield _unit(unit, ManifestRun(run=run, archive=tars.get((folder, shard)), shard=shard), sizes)


def _shard_of(record: Record) -> int:
    """The shard of a line; -1 where it tells none."""
    shard = record.cells.get("shard_id")
    return shard if isinstance(shard, int) else -1


class ManifestStream:
    """Reads runs of manifests, each of which goes on where the last ended, if it does."""

    def __init__(self, names: ClipNames) -> None:
        self._names, self._records = names, RecordStream(names.corpus)

    def read(self, run: ManifestRun) -> Iterator[LinePlace | UnreadableFile]:
        """The lines of a run; what is wrong with one is an UnreadableFile."""
        records: Iterable[Record | UnreadableFile] = self._records.read(run.run)
        sounds: Sounds = Files(names=self._names, file=run.run.file)
        archives = None
        if run.shard is not None:
            records, sounds = self._of_shard(records, run.shard), Nowhere(shard=run.shard)
        if run.archive is not None:
            records = lines = [*records]
            archives = self._archives(run.archive, lines)
            sounds = Members(path=run.archive, archives=archives)
        for record in records:
            if isinstance(record, UnreadableFile):
                yield record
            elif record.fault is not None:
                yield UnreadableFile(file=record.place, detail=record.fault.detail)
            else:
                yield LinePlace(record=record, run=run.run, sounds=sounds)
        if archives is not None:
            yield from archives.broken

    @staticmethod
    def _of_shard(
        records: Iterable[Record | UnreadableFile], shard: int
    ) -> Iterator[Record | UnreadableFile]:
        for record in records:
            if isinstance(record, UnreadableFile) or _shard_of(record) == shard:
                yield record

    def _archives(self, path: str, records: Sequence[Record | UnreadableFile]) -> Archives:
        uses = Counter(
            sound.member
            for record in records
            if isinstance(record, Record)
            for sound in sounds_of(record.cells)
        )
        return Archives(_items(self._names.corpus, path), uses)


def _items(corpus: Corpus, path: str) -> Iterator[Item | UnreadableFile]:
    for member in members(corpus, [path]):
        yield member if isinstance(member, UnreadableFile) else Item(member.name, member, path)
