"""Buffer of clips end to end, which becomes an Arrow column as it is."""

import os
import posixpath
import stat
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from speechrows import audio
from speechrows.corpora.folder import Corpus
from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Clip
from speechrows.types import Reason
from speechrows.types import Samples

MAX_BYTES = audio.MAX_BYTES  # of the clips of one conversation: Arrow's offsets end at 2 GiB
_MISSING = "there is no such file; download the corpus again"


class Sound(NamedTuple):
    """What is known of a clip before it is joined to others: the format of its samples, and its length."""

    form: tuple[int, int, str]  # rate, channels, libsndfile's name of the samples' type
    seconds: float


class ClipBuffer:
    """Clips end to end in one preallocated buffer, which becomes an Arrow column as it is.

    A clip that proves bad is not kept, and `rewind` takes back those of a dialogue that is
    dropped, so that the buffer stays without gaps. Of clips with several channels, `channel` is the one
    that is kept, unless the corpus says which; None keeps them as they are.
    """

    def __init__(self, corpus: Corpus, num_bytes: int, *, channel: int | None = None) -> None:
        self._corpus = corpus
        self._channel = channel
        self._least = num_bytes
        self._bytes = np.empty(num_bytes, np.uint8)
        self._recordings = audio.Recordings(corpus.open_file)
        self.used = 0

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The buffer itself; `Clip.start` and `Clip.stop` are offsets in it."""
        return self._bytes

    def rewind(self, used: int) -> None:
        """Forget every clip from `used` on."""
        self.used = used

    def clear(self) -> None:
        """Forget every clip, and give back what memory a large conversation took."""
        self.used = 0
        if len(self._bytes) > self._least:
            self._bytes = np.empty(self._least, np.uint8)

    def load(self, ref: AudioRef) -> Clip:
        """Read a clip to the end of the buffer and check it.

        Raises:
            BadClipError: it can not become part of a row; the buffer is as before.
        """
        if ref.following:
            return self._load_joined(ref)
        slice_size = self._read_slice(ref) if ref.span else 0
        size = slice_size or (self._read(ref.path) if ref.data is None else self._copy(ref.data))
        data = self._bytes.data[self.used : self.used + size]
        facts, kind = audio.inspect(data), None
        if facts is None:
            converted, kind = audio.readable(data)
            size, facts = self._store(converted)
        channel = self._channel if ref.channel is None else ref.channel
        is_done = slice_size and ref.channel is not None
        if channel is not None and not is_done and (facts.num_channels > 1 or ref.channel is not None):
            data = self._bytes.data[self.used : self.used + size]
            size, facts = self._store(audio.convert(data, channel=channel))
        clip = Clip(
            name=posixpath.splitext(posixpath.basename(ref.path))[0] + facts.extension,
            start=self.used,
            stop=self.used + size,
            sampling_rate=facts.sampling_rate,
            num_samples=facts.num_samples,
            made_from=kind,
            is_cut_short=bool(slice_size and ref.span and ref.span.is_all),
        )
        self.used += size
        return clip

    def sound_of(self, ref: AudioRef) -> Sound | None:
        """What is known of a clip; None of one that can not become part of a row. The buffer is as before."""
        before = self.used
        try:
            clip = self.load(ref)
            with audio.opened(self._bytes.data[clip.start : clip.stop]) as file:
                form = (file.samplerate, file.channels, file.subtype)
        except BadClipError:
            return None
        finally:
            self.rewind(before)
        return Sound(form, clip.num_samples / clip.sampling_rate)

    def _load_joined(self, ref: AudioRef) -> Clip:
        """Read a clip and those that are joined to it, as one."""
        before = self.used
        try:
            clips = [
                self.load(replace(ref, following=())),
                *(self.load(other.audio) for other in ref.following),
            ]
            rate = clips[0].sampling_rate
            starts = [Samples(0), *(audio.to_samples(other.after_s, rate) for other in ref.following)]
            joined = audio.join([self._bytes.data[clip.start : clip.stop] for clip in clips], starts)
        finally:
            self.rewind(before)
        size, facts = self._store(joined)
        self.used += size
        name = posixpath.splitext(clips[0].name)[0] + facts.extension
        return replace(clips[0], name=name, stop=self.used, num_samples=facts.num_samples, made_from=None)

    def _read_slice(self, ref: AudioRef) -> int:
        """The size of a slice of a recording, of its channel; 0 where it is all, stored as published."""
        assert ref.span is not None
        try:
            cut = self._recordings.cut(ref.path, ref.span, ref.data, ref.channel)
        except (FileNotFoundError, NotADirectoryError):
            raise BadClipError(Reason.MISSING, _MISSING) from None
        except OSError as error:
            raise _unreadable(error) from error
        return 0 if cut is None else self._copy(cut)

    def _store(self, converted: bytes) -> tuple[int, audio.AudioFacts]:
        """The size and facts of a clip that takes the place of the one that was read last."""
        size = self._copy(converted)
        facts = audio.inspect(self._bytes.data[self.used : self.used + size])
        assert facts is not None  # convert writes formats that inspect passes through
        return size, facts

    def _copy(self, data: bytes | memoryview) -> int:
        self._reserve(len(data))
        self._bytes[self.used : self.used + len(data)] = np.frombuffer(data, np.uint8)
        return len(data)

    def _read(self, path: str) -> int:
        try:
            local_path = self._corpus.local_path(path)
            if local_path is None:
                return self._copy(self._corpus.read(path))
            fd = os.open(local_path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its writer
        except (FileNotFoundError, NotADirectoryError):
            raise BadClipError(Reason.MISSING, _MISSING) from None
        except OSError as error:
            raise _unreadable(error) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
                raise BadClipError(Reason.UNDECODABLE, f"is {kind}; expected a file")
            size = status.st_size
            self._reserve(size)
            view, at = self._bytes.data[self.used : self.used + size], 0
            while at < size and (n := os.readv(fd, [view[at:]])):
                at += n
            return at
        finally:
            os.close(fd)

    def _reserve(self, size: int) -> None:
        need = self.used + size
        if need > MAX_BYTES:
            raise BadClipError(
                Reason.TOO_LARGE,
                f"{size} bytes: a conversation's clips are held up to {MAX_BYTES}; split it",
            )
        if need > len(self._bytes):
            larger = np.empty(max(need, 2 * len(self._bytes)), np.uint8)
            larger[: self.used] = self._bytes[: self.used]
            self._bytes = larger


def _unreadable(error: OSError) -> BadClipError:
    message = error.strerror or type(error).__name__
    detail = f"found {message!r} on opening it, expected a file; make it readable, or name another"
    return BadClipError(Reason.UNREADABLE, detail)
