"""What conversations are made of: a row, and its clips as they are stored."""

import re
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]  # a row: its columns, with a Sound or None in the two of audio


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sound:
    """A clip as it is stored: its bytes, in a buffer of its row group, and a name with the true extension."""

    name: str
    data: memoryview

    @property
    def extension(self) -> str:
        """What the name ends with, without the dot: wav, flac, opus, mp3; bin, where that is no such word."""
        end = self.name.rpartition(".")[2].lower()
        return end if re.fullmatch("[a-z0-9]{1,8}", end) else "bin"
