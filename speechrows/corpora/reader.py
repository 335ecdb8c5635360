"""What a corpus module writes: a Reader, which lists a corpus as units and reads each of them."""

import traceback
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import Generic
from typing import Protocol
from typing import TypeVar

from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import basename
from speechrows.corpora.folder import Corpus
from speechrows.corpora.turns import MAX_NAME
from speechrows.corpora.turns import describe_error
from speechrows.corpora.turns import is_unicode
from speechrows.errors import BadClipError
from speechrows.errors import SpeechRowsError
from speechrows.errors import UsageError
from speechrows.types import Dialogue
from speechrows.types import Task
from speechrows.types import UnreadableFile

Payload = TypeVar("Payload")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit(Generic[Payload]):
    """What a reader reads at once, a dialogue as a rule. Paths are relative to the corpus.

    Attributes:
        payload: what the reader has to know of it beside its files; it travels to other processes.
        files: its own files. Of a remote corpus they are fetched ahead, many units at a time.
        opened: files that the reader opens itself: shared by many units, or streams too large to hold.
        num_bytes: what it weighs; shards are planned by it.
        splits: those that its rows may be of.
        in_stream: its files are one stream, of which one process reads unit after unit.
    """

    payload: Payload
    files: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    num_bytes: int
    splits: tuple[str, ...] = ("train",)
    in_stream: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that it is read from."""
        return (*self.opened, *self.files)

    @property
    def file(self) -> str:
        """The file that describes it: the first one."""
        return self.paths[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A run of units that one process builds in one go; `entries` are their files as they were listed."""

    number: int
    units: tuple[Unit[Any], ...]
    entries: tuple[Entry, ...] = ()

    @property
    def num_bytes(self) -> int:
        """What its units weigh."""
        return sum(unit.num_bytes for unit in self.units)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing(Generic[Payload]):
    """The units of a corpus, in order; `found` says in words what they were made of."""

    contents: str
    units: Sequence[Unit[Payload]]


class Reader(Protocol[Payload]):
    """Reads one corpus, for one task. It may keep what it knows from unit to unit.

    A unit is read on its own: where a reader raises, that unit is lost, and no other.
    """

    def __init__(self, corpus: Corpus, config: Any, task: Task) -> None:
        """Open nothing yet: other processes make their own."""
        ...

    def units(self, entries: list[Entry]) -> Listing[Payload]:
        """List what a corpus holds; `entries` are all of its files, sorted by path.

        Raises:
            UsageError: it can not be read at all.
        """
        ...

    def dialogues(self, unit: Unit[Payload]) -> Iterator[Dialogue | UnreadableFile]:
        """Read the dialogues of a unit, in order; what is wrong with a turn is its `fault`."""
        ...


def list_units(reader: Reader[Any], corpus: Corpus, entries: list[Entry], builder: str) -> Listing[Any]:
    """What a reader finds in a corpus.

    Raises:
        UsageError: it can not be read at all, or its reader raises.
    """
    try:
        return reader.units(entries)
    except (SpeechRowsError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(
            f"{corpus.root}: {_failure(error, f'{builder} listed it')}. Mend the files, or the reader"
        ) from error


def read_unit(reader: Reader[Any], unit: Unit[Any], builder: str) -> Iterator[Dialogue | UnreadableFile]:
    """The dialogues of a unit; where its reader raises, an UnreadableFile in place of those that follow.

    What speechrows raises of its own ends the build: a store that does not answer, a corpus that is none.
    """
    try:
        yield from map(_with_names, reader.dialogues(unit))
    except BadClipError as error:
        yield UnreadableFile(file=unit.file, detail=error.detail)
    except (SpeechRowsError, MemoryError):
        raise
    except Exception as error:
        detail = f"{_failure(error, f'{builder} read it')}. Mend the file, or the reader"
        yield UnreadableFile(file=unit.file, detail=detail)


def _with_names(dialogue: Dialogue | UnreadableFile) -> Dialogue | UnreadableFile:
    """A dialogue whose names a row can bear: without its domain, or not at all, where it can not."""
    if isinstance(dialogue, UnreadableFile):
        return dialogue
    if len(dialogue.conversation_id) > MAX_NAME:
        detail = f"found a conversation's id of {len(dialogue.conversation_id):,} letters, expected a name"
        return UnreadableFile(file=dialogue.source, detail=f"{detail}: {dialogue.conversation_id!a:.80}…")
    if not is_unicode(dialogue.conversation_id):
        detail = f"found a conversation's id {dialogue.conversation_id!a:.80}, expected a name in UTF-8"
        return UnreadableFile(file=dialogue.source, detail=detail)
    domain = dialogue.domain
    if domain is not None and (len(domain) > MAX_NAME or not is_unicode(domain)):
        return replace(dialogue, domain=None)
    return dialogue


def _failure(error: Exception, deed: str) -> str:
    """What was raised while a reader did its `deed`, and on which line of which file."""
    line = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{basename(line.filename)}, line {line.lineno}"
    return f"found {describe_error(error):.200} while {deed} ({place}); expected what its reader knows"
