"""Tar archives of samples, as webdataset writes them: members of one key, one after another, are a row."""

from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from speechrows.corpora.entries import basename
from speechrows.corpora.entries import folder_of
from speechrows.corpora.folder import Corpus
from speechrows.corpora.parquet import BrokenFileError
from speechrows.corpora.tables.records import ALL
from speechrows.corpora.tables.records import Record
from speechrows.corpora.tables.records import Rows
from speechrows.corpora.tables.records import TableFile
from speechrows.corpora.tar import Member
from speechrows.corpora.tar import members
from speechrows.corpora.turns import is_audio
from speechrows.corpora.turns import parse_json
from speechrows.types import AudioRef
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import UnreadableFile

AUDIO, KEY = "audio", "__key__"  # columns of every archive: its clip, whatever its format, and its name
_LOOKED_AT = 20  # samples, for the names of columns
_MOST_TEXT = 1 << 20  # bytes of a member that is a text


class SampleTable:
    """An archive of samples: `<key>.wav`, `<key>.txt`, `<key>.json`, whose fields are columns too.

    It is read as a stream; rows are numbered from 0.
    """

    def __init__(self, corpus: Corpus, file: TableFile) -> None:
        self._corpus, self._file = corpus, file

    def columns(self) -> Mapping[str, bool]:
        """The columns of its first samples."""
        names: dict[str, bool] = {}
        for number, record in enumerate(self.read((), AUDIO)):
            if isinstance(record, UnreadableFile):
                if not names:
                    raise BrokenFileError(record.detail)
                break
            names |= dict.fromkeys(record.cells, False)
            if record.clip is not None:
                names[AUDIO] = True
            if number == _LOOKED_AT:
                break
        return names

    def read(
        self,
        names: Sequence[str],
        audio: str | None,
        rows: Rows = ALL,
        offset: int = 0,  # noqa: ARG002  # of text alone
    ) -> Generator[Record | UnreadableFile]:
        """Read some rows; all columns, where `names` is empty."""
        wanted = rows if isinstance(rows, range) else set(rows.tolist())
        last, number, keys = rows[-1], -1, set[str]()
        for sample in self._samples():
            if isinstance(sample, UnreadableFile):
                yield sample
                continue
            number, key = number + 1, _key(sample[0])
            if number in wanted:
                record = self._record(number, sample, names, audio)
                yield record if key not in keys else _again(record, key)
            keys.add(key)
            if number >= last:
                return

    def _samples(self) -> Iterator[list[Member] | UnreadableFile]:
        """The members of each key. What some systems leave beside a file is no member."""
        sample: list[Member] = []
        for member in members(self._corpus, [self._file.path]):
            if isinstance(member, UnreadableFile):
                yield from [sample] if sample else []
                sample = []
                yield member
            elif not member.basename.startswith("."):
                if sample and _key(sample[0]) != _key(member):
                    yield sample
                    sample = []
                sample.append(member)
        yield from [sample] if sample else []

    def _record(self, number: int, sample: list[Member], names: Sequence[str], audio: str | None) -> Record:
        path, key = self._file.path, _key(sample[0])
        place, cells, clip = f"{path}:{key}", dict[str, Any](), None
        faults: list[Fault] = []
        for member in sample:
            if member.refused is not None:
                faults.append(member.refused)
            elif is_audio(member.name):
                if clip is None and audio == AUDIO:
                    clip = AudioRef(path=f"{path}/{member.name}", data=member.data)
                cells.setdefault(AUDIO, basename(member.name))
            elif len(member.data) <= _MOST_TEXT:
                fields, wrong = _fields(member)
                cells = {**fields, **cells}
                faults += [Fault(reason=Reason.UNREADABLE, detail=wrong, file=place)] if wrong else []
        cells[KEY] = key
        kept = {name: value for name, value in cells.items() if name in names} if names else cells
        return Record(number, place, kept, clip, faults[0] if faults else None)


def _again(record: Record, key: str) -> Record:
    """A sample whose key an earlier one of its archive has."""
    detail = f"found the key {key!a:.200} again, expected each once, its members one after another"
    fault = Fault(reason=Reason.BAD_NUMBER, detail=detail, file=record.place)
    return record._replace(place=f"{record.place}#{record.number}", fault=record.fault or fault)


def _key(member: Member) -> str:
    """A member's name without what follows the first dot of its last part."""
    folder, name = folder_of(member.name), member.basename.partition(".")[0]
    return f"{folder}/{name}" if folder else name


def _fields(member: Member) -> tuple[dict[str, Any], str | None]:
    """What a member that is no clip says, by column, and what is wrong with it."""
    end = member.basename.partition(".")[2].lower()
    text = member.data.decode("utf-8-sig", "surrogateescape")
    if end != "json":
        return {end: text.strip()}, None
    try:
        record = parse_json(text)
    except (ValueError, RecursionError) as error:
        return {}, f"{member.name!a:.200}: found {error!s:.200}; expected JSON"
    return (record, None) if isinstance(record, dict) else ({end: record}, None)
