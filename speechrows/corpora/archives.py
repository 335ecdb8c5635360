"""Members of archives by name, in whichever order they are asked for; what came too early waits."""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from speechrows.corpora.spill import SpillBuffer
from speechrows.corpora.tar import Member
from speechrows.types import AudioRef
from speechrows.types import Fault
from speechrows.types import UnreadableFile


class Item(NamedTuple):
    """What an archive has under a key: a member, or None where a placeholder says that there is none.

    `facts` are what a member beside it tells of it.
    """

    key: str
    member: Member | None
    archive: str
    facts: Mapping[str, Any] | None = None


class ArchivedClip(NamedTuple):
    """A clip of an archive, why it is refused, or None where a placeholder stands; with its facts."""

    audio: AudioRef | Fault | None
    facts: Mapping[str, Any] | None = None


class Archives:
    """The clips of archives, which are read on only until the one that is asked for has come.

    Those that came before it wait, in memory and then on disk. A key is asked for once, or as often as `uses`
    says, which then has every key.
    """

    def __init__(self, items: Iterable[Item | UnreadableFile], uses: Mapping[str, int] | None = None) -> None:
        self._items, self._uses = iter(items), uses
        self._kept: dict[str, ArchivedClip] = {}  # without bytes
        self._left: dict[str, int] = {}  # how often each of them will yet be asked for
        self._waiting = SpillBuffer()
        self.broken: list[UnreadableFile] = []  # what of the archives can not be read

    def take(self, key: str) -> ArchivedClip | None:
        """A clip by its key; None where the archives have none."""
        while key not in self._kept:
            item = next(self._items, None)
            if item is None:
                return None
            if isinstance(item, UnreadableFile):
                self.broken.append(item)
            else:
                self._keep(item)
        clip = self._kept[key]
        self._left[key] -= 1
        is_last = not self._left[key]
        if is_last:
            del self._kept[key], self._left[key]
        if not isinstance(clip.audio, AudioRef):
            return clip
        data = self._waiting.take(key)
        if not is_last:
            self._waiting.put(key, data)
        return clip._replace(audio=AudioRef(path=clip.audio.path, data=data))

    def _keep(self, item: Item) -> None:
        uses = 1 if self._uses is None else self._uses.get(item.key, 0)
        if not uses or item.key in self._kept:
            return
        audio: AudioRef | Fault | None = None
        if item.member is not None:
            audio = item.member.refused or AudioRef(path=f"{item.archive}/{item.member.name}")
            if item.member.refused is None:
                self._waiting.put(item.key, item.member.data)
        self._kept[item.key], self._left[item.key] = ArchivedClip(audio, item.facts), uses
