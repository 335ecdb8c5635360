"""A clip to make a value for, and its audio, not yet read."""

from dataclasses import dataclass
from dataclasses import field

from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Reason
from speechrows.types import Traits


@dataclass(frozen=True, kw_only=True, slots=True)
class LazyAudio:
    """A clip's audio file, read when it is asked for. Any thread may ask."""

    ref: AudioRef
    corpus: Corpus | None = None

    def load(self) -> bytes | memoryview:
        """The bytes of a file that libsndfile reads; from a corpus, whole and checked.

        Raises:
            BadClipError: there is no such file, or it is empty, truncated, or no audio: a build skips
                such a clip for the same reason.
        """
        if self.corpus is None:
            if not self.ref.data:
                raise BadClipError(Reason.EMPTY, f"{self.ref.path}: found no bytes; expected audio")
            return self.ref.data
        buffer = ClipBuffer(self.corpus, 1 << 20)
        clip = buffer.load(self.ref)
        return buffer.array.data[clip.start : clip.stop]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceClip:
    """A clip to make a value for. `share`, if known, is how much of the source lies before its end."""

    clip_id: str
    text: str
    traits: Traits = field(default_factory=Traits)
    audio: LazyAudio | None = None  # None where no audio was asked for, or there is none
    sampling_rate: int | None = None  # known only where the source is a built folder
    num_samples: int | None = None
    share: float | None = None
