"""Clips of a text index' turns that lie unpacked in the corpus' folder, found by their paths' last parts."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import basename
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Unit
from speechrows.corpora.tar_join import Clips
from speechrows.corpora.tar_join import Conversations
from speechrows.corpora.text_index import shared_parts
from speechrows.corpora.turns import fault_of
from speechrows.corpora.turns import is_audio
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class UnpackedClips:
    """Which listed clips belong to which turns: `matches` has the clip of each row of the index, or -1."""

    conversations: Conversations
    entries: Sequence[Entry]
    matches: npt.NDArray[np.int32]

    @property
    def num_clips(self) -> int:
        """How many turns have their clip."""
        return int(np.count_nonzero(self.matches >= 0))

    @property
    def num_missing(self) -> int:
        """How many turns name a clip that is not listed."""
        has_clip = self.conversations.index.column("speech").is_valid().to_numpy()
        return int(np.count_nonzero((self.matches < 0) & has_clip))

    def units(self, opened: Sequence[str]) -> list[Unit[int | range]]:
        """A unit for each conversation, with its clips; its payload is the conversation's number."""
        units: list[Unit[int | range]] = []
        for number in range(len(self.conversations)):
            matches = dict.fromkeys(self.matches[self.conversations.rows(number)].tolist())
            clips = [self.entries[i] for i in matches if i >= 0]
            paths, num_bytes = tuple(clip.path for clip in clips), sum(clip.num_bytes for clip in clips)
            units.append(Unit(payload=number, opened=tuple(opened), files=paths, num_bytes=num_bytes))
        return units


def find_clips(conversations: Conversations, entries: Sequence[Entry]) -> UnpackedClips:
    """Find the clips of the conversations' turns among a corpus' files."""
    clips = [entry for entry in entries if is_audio(entry.path)]
    matches = conversations.index.match([clip.path for clip in clips])
    return UnpackedClips(conversations=conversations, entries=clips, matches=matches)


def clips_of(conversations: Conversations, number: int, corpus: Corpus, files: Sequence[str]) -> Clips:
    """The clips of a conversation, or why there is none, by row of the index; `files` are its unit's."""
    named = {name: list(paths) for name, paths in itertools.groupby(sorted(files, key=basename), basename)}
    clips: dict[int, AudioRef | Fault] = {}
    for row, turn in conversations.turns(number):
        if turn.speech is None:
            continue
        paths = named.get(basename(turn.speech), [turn.speech])
        try:
            path = max(paths, key=partial(shared_parts, turn.speech))
            clips[row] = AudioRef(path=corpus.resolve("", path))
        except BadClipError as error:
            clips[row] = fault_of(error, turn.file)
    return clips
