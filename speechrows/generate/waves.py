"""Clips as a model hears them: decoded, mixed to one channel, resampled, prefetched by threads.

Threads decode and resample ahead of the model, as far as a budget of samples allows. Clips of
like length are put into a batch, so that padding stays small.
"""

import queue
import threading
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechrows import audio
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.generate.clip import InputClip
from speechrows.types import Reason

try:
    import soxr
except ImportError as error:
    raise UsageError(f"found {error}; this command needs: pip install 'speechrows[codec]'") from error

Float32 = npt.NDArray[np.float32]
RESAMPLER = "soxr HQ"  # part of a recipe: another one gives other values
_MAX_CLIPS = 2048  # of a window, however short they are


@dataclass(frozen=True, kw_only=True, slots=True)
class Wave:
    """A clip as the model hears it: float32 [S] in [-1, 1], one channel, at the model's rate."""

    clip_id: str
    samples: Float32
    share: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultyClip:
    """A clip that can not be decoded: it gets no value."""

    clip_id: str
    reason: Reason
    detail: str
    share: float | None = None


def load(clip: InputClip, sampling_rate: int) -> Wave | FaultyClip:
    """Decode a clip at `sampling_rate` Hz, float32 [S]; S is the exact length, rounded up."""
    try:
        samples = _samples(clip, sampling_rate)
    except BadClipError as error:
        return FaultyClip(clip_id=clip.clip_id, reason=error.reason, detail=error.detail, share=clip.share)
    return Wave(clip_id=clip.clip_id, samples=samples, share=clip.share)


def _samples(clip: InputClip, sampling_rate: int) -> Float32:
    if clip.audio is None:
        raise BadClipError(Reason.MISSING, "the source has no audio for this clip")
    data = clip.audio.load()
    # Where nobody looked: libsndfile reads half of some files without complaint.
    if clip.audio.corpus is None and audio.inspect(memoryview(data)) is None:
        data, _ = audio.readable(memoryview(data))
    samples, rate = audio.decode(data)
    if not len(samples):
        raise BadClipError(Reason.ZERO_SAMPLES, "holds no sample; expected at least one")
    if not np.isfinite(samples).all():
        raise BadClipError(Reason.UNDECODABLE, "holds samples that are no numbers (NaN or infinite)")
    return resample(samples, rate, sampling_rate)


def resample(samples: Float32, rate: int, wanted: int) -> Float32:
    """Resample float32 [S, channels] at `rate` Hz to float32 [ceil(S * wanted / rate)], channels averaged."""
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if rate == wanted:
        return mono
    length = -(-len(mono) * wanted // rate)
    resampled = soxr.resample(mono, rate, wanted, quality="HQ")
    # soxr rounds to the nearest; every count of frames here is a ceiling of the exact length.
    return resampled[:length] if len(resampled) >= length else np.pad(resampled, (0, length - len(resampled)))


class Prefetch:
    """Clips in order, decoded by threads ahead of their use. Iterate once.

    At most `num_samples` are ready at a time (besides what the threads are just decoding), so memory
    does not grow with the number of clips. `waited_s` counts the seconds that the consumer waited.
    """

    def __init__(
        self, clips: Iterable[InputClip], sampling_rate: int, *, num_samples: int, num_threads: int
    ) -> None:
        self.waited_s = 0.0
        self._clips = clips
        self._sampling_rate = sampling_rate
        self._num_samples = num_samples
        self._num_threads = num_threads
        self._ready: queue.Queue[Future[Wave | FaultyClip] | BaseException | None] = queue.Queue()
        self._room = threading.Condition()
        self._num_ready = 0  # samples that wait to be taken
        self._loading = 0  # clips that are being decoded, or wait for a thread
        self._stopped = False

    def __iter__(self) -> Iterator[Wave | FaultyClip]:
        with ThreadPoolExecutor(self._num_threads) as pool:
            feeder = threading.Thread(target=self._feed, args=(pool,), daemon=True)
            feeder.start()
            try:
                while (decoded := self._take()) is not None:
                    yield decoded
            finally:
                with self._room:
                    self._stopped = True
                    self._room.notify_all()
                feeder.join()
                pool.shutdown(cancel_futures=True)

    def _take(self) -> Wave | FaultyClip | None:
        started = time.monotonic()
        entry = self._ready.get()
        decoded = entry.result() if isinstance(entry, Future) else entry
        self.waited_s += time.monotonic() - started
        if isinstance(decoded, BaseException):
            raise decoded
        if isinstance(decoded, Wave):
            with self._room:
                self._num_ready -= len(decoded.samples)
                self._room.notify_all()
        return decoded

    def _feed(self, pool: ThreadPoolExecutor) -> None:
        """Keep the threads busy; what iterating over the clips raises is raised again by `_take`."""
        try:
            for clip in self._clips:
                with self._room:
                    self._room.wait_for(self._may_go_on)
                    if self._stopped:
                        return
                    self._loading += 1
                self._ready.put(pool.submit(self._load, clip))
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)

    def _may_go_on(self) -> bool:
        has_room = self._num_ready < self._num_samples and self._loading < 2 * self._num_threads
        return self._stopped or has_room

    def _load(self, clip: InputClip) -> Wave | FaultyClip:
        decoded: Wave | FaultyClip | None = None
        try:
            decoded = load(clip, self._sampling_rate)
            return decoded
        finally:
            with self._room:
                self._loading -= 1
                self._num_ready += len(decoded.samples) if isinstance(decoded, Wave) else 0
                self._room.notify_all()


def windows(clips: Iterable[Wave | FaultyClip], num_samples: int) -> Iterator[list[Wave | FaultyClip]]:
    """Runs of clips of about `num_samples` in all, within which clips are sorted by length."""
    window: list[Wave | FaultyClip] = []
    total = 0
    for clip in clips:
        window.append(clip)
        total += len(clip.samples) if isinstance(clip, Wave) else 0
        if total >= num_samples or len(window) == _MAX_CLIPS:
            yield window
            window, total = [], 0
    if window:
        yield window


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of `lengths`, longest first, in batches of at most `budget` with their padding.

    What is longer than the budget is a batch of its own.
    """
    batched: list[list[int]] = []
    longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batched or (len(batched[-1]) + 1) * longest > budget:
            batched.append([])
            longest = lengths[i]
        batched[-1].append(i)
    return batched
