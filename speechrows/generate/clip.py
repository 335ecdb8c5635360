"""A clip to make a value for, with its audio, which is read later."""

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
    """A clip's audio file, read by `load`, in any thread."""

    ref: AudioRef
    corpus: Corpus | None = None
    channel: int | None = None  # as a build of the corpus keeps it

    def load(self) -> bytes | memoryview:
        """Read the bytes of an audio file; of a corpus, with the checks of a build.

        Raises:
            BadClipError: there is no such file, or it is empty, truncated, or no audio.
        """
        if self.corpus is None:
            if not self.ref.data:
                raise BadClipError(Reason.EMPTY, f"{self.ref.path}: found no bytes; expected audio")
            return self.ref.data
        buffer = ClipBuffer(self.corpus, 1 << 20, channel=self.channel)
        clip = buffer.load(self.ref)
        return buffer.array.data[clip.start : clip.stop]


@dataclass(frozen=True, kw_only=True, slots=True)
class InputClip:
    """A clip to make a value for; `share` is how much of all clips lies before its end, if that is known."""

    clip_id: str
    text: str
    traits: Traits = field(default_factory=Traits)
    audio: LazyAudio | None = None  # None where no audio was asked for, or there is none
    sampling_rate: int | None = None  # of a built folder alone, num_samples too
    num_samples: int | None = None
    share: float | None = None
