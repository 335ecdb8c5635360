"""Encodes clips in batches of like length, and writes the values in the order of the clips."""

import math
import time
from collections import Counter
from collections import deque
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from typing import Any
from typing import Protocol

import numpy as np
from tqdm import tqdm

from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.generate.clip import InputClip
from speechrows.generate.waves import FaultyClip
from speechrows.generate.waves import Float32
from speechrows.generate.waves import Prefetch
from speechrows.generate.waves import Wave
from speechrows.generate.waves import batches
from speechrows.generate.waves import windows
from speechrows.generate.workers import Each
from speechrows.generate.writer import SidecarWriter
from speechrows.types import Int16
from speechrows.types import Int32
from speechrows.types import Reason

_BATCHES_A_WINDOW = 8
_MAX_EXAMPLES = 5  # of faulty clips, in a report; the sidecar has all of them, with their reasons


class Encoder(Protocol):
    """Makes codes int16 [K, F], or units int32 [F], of a batch of clips.

    A clip's value does not depend on the others of its batch, but for ties of float arithmetic.
    """

    @property
    def sampling_rate(self) -> int:
        """What clips are resampled to, in Hz."""
        ...

    def encode(self, waves: Sequence[Float32]) -> Sequence[Int16 | Int32]:
        """The values of clips, float32 [S] each. F is 0 where a clip is too short for a frame."""
        ...


@dataclass(kw_only=True)
class EncodeReport:
    """Counts and times of a run of `generate mimi` or `generate units`; as a string, lines for a person."""

    folder: str
    num_earlier: int = 0  # clips that an earlier run had encoded
    num_made: int = 0  # values
    faults: Counter[str] = field(default_factory=Counter[str])  # clips without a value, by reason
    examples: list[str] = field(default_factory=list[str])  # of the faults, the first few
    audio_s: float = 0.0  # seconds of audio that were encoded
    wall_s: float = 0.0
    waited_s: float = 0.0  # of wall_s, for clips that were not yet decoded
    num_verified: int = 0  # codes that were made again from their clip alone
    num_differing: int = 0  # of them

    @property
    def waiting_share(self) -> float:
        """The share of the time in which the model waited for clips."""
        return self.waited_s / self.wall_s if self.wall_s else 0.0

    def __str__(self) -> str:
        earlier = f" ({self.num_earlier} were there)" if self.num_earlier else ""
        lines = [f"{self.folder}: {self.num_made} clips made{earlier}, {self.faults.total()} without a value"]
        lines += [f"  {reason}: {number}" for reason, number in sorted(self.faults.items())]
        lines += [f"  {line}" for line in self.examples]
        if self.audio_s:
            lines.append(
                f"{self.audio_s / 3600:.3f} hours of audio in {self.wall_s:.1f} s: "
                f"{self.audio_s / self.wall_s:.1f} s a second; {self.waiting_share:.1%} of the time went "
                "into waiting for decoded clips"
            )
        if self.num_verified:
            lines.append(
                f"verified: {self.num_differing} of {self.num_verified} codes differ when their clip is "
                f"encoded alone ({self.num_differing / self.num_verified * 10_000:.2f} in 10 000; float ties)"
            )
        return "\n".join(lines)


def run(
    clips: Iterable[InputClip],
    writer: SidecarWriter,
    encoder: Encoder,
    *,
    batch_seconds: float,
    num_threads: int,
    verify: int = 0,
    window_seconds: float = 60.0,
    each: Each | None = None,
) -> EncodeReport:
    """Encode every clip that the sidecar lacks; encode the first `verify` once more, each alone.

    Clips are sorted by length within a window of `window_seconds` of audio (or 8 batches). A run that is
    killed loses its window, besides what was not yet on disk. `each` has batches encoded elsewhere, as
    `encoder` encodes them here. Raises UsageError for bad `batch_seconds`.
    """
    if not 0 < batch_seconds < math.inf:
        raise UsageError(f"--batch-seconds: found {batch_seconds}, expected a number above 0")
    report = EncodeReport(folder=str(writer.folder), num_earlier=len(writer))
    rate = encoder.sampling_rate
    budget = math.ceil(batch_seconds * rate)
    most = max(_BATCHES_A_WINDOW * budget, int(window_seconds * rate))
    missing = (clip for clip in clips if clip.clip_id not in writer)
    prefetch = Prefetch(missing, rate, num_samples=most, num_threads=num_threads)
    encoding, started = _Encoding(writer, report, rate), time.monotonic()
    batches_of_all = encoding.batches(windows(prefetch, most), budget, max(verify, 0))
    with tqdm(desc=printable(writer.recipe["kind"]), unit="clip", disable=None) as bar:
        for values in (each or partial(map, encoder.encode))(batches_of_all):
            bar.update(encoding.take(values))
            _show(bar, report, encoding.share, time.monotonic() - started)
        encoding.finish()
    report.wall_s, report.waited_s = time.monotonic() - started, prefetch.waited_s
    return report


@dataclass(kw_only=True)
class _Window:
    """Clips of a window, whose batches are being encoded; those `alone` once more, each by itself."""

    decoded: Sequence[Wave | FaultyClip]
    batches: Sequence[Sequence[Wave]]
    alone: Sequence[Wave]
    num_encoded: int = 0  # batches, of one clip each at last
    values: dict[str, Int16 | Int32] = field(default_factory=dict[str, "Int16 | Int32"])

    @property
    def is_encoded(self) -> bool:
        return self.num_encoded == len(self.batches) + len(self.alone)


class _Encoding:
    """Windows on their way through the model into the writer, in order."""

    def __init__(self, writer: SidecarWriter, report: EncodeReport, sampling_rate: int) -> None:
        self.share: float | None = None  # of all clips, that were written
        self._writer, self._report, self._rate = writer, report, sampling_rate
        self._windows: deque[_Window] = deque()

    def batches(
        self, decoded_windows: Iterable[Sequence[Wave | FaultyClip]], budget: int, verify: int
    ) -> Iterator[Sequence[Float32]]:
        """Yield the samples of each batch; keep what they are of for `take`."""
        for decoded in decoded_windows:
            waves = [clip for clip in decoded if isinstance(clip, Wave)]
            indices = batches([len(wave.samples) for wave in waves], budget)
            batched = [[waves[i] for i in batch] for batch in indices]
            self._windows.append(_Window(decoded=decoded, batches=batched, alone=waves[:verify]))
            verify -= len(waves[:verify])
            for batch in (*batched, *([wave] for wave in self._windows[-1].alone)):
                yield [wave.samples for wave in batch]

    def take(self, values: Sequence[Int16 | Int32]) -> int:
        """Take the values of the next batch; return how many clips have theirs for the first time."""
        while self._windows[0].is_encoded:  # no clip of it could be decoded
            self._write(self._windows.popleft())
        window = self._windows[0]
        at = window.num_encoded
        window.num_encoded += 1
        num_clips = 0
        if at < len(window.batches):
            batch = window.batches[at]
            window.values |= {wave.clip_id: value for wave, value in zip(batch, values, strict=True)}
            self._report.audio_s += sum(len(wave.samples) for wave in batch) / self._rate
            num_clips = len(batch)
        else:
            batched = window.values[window.alone[at - len(window.batches)].clip_id]
            self._report.num_verified += batched.size
            self._report.num_differing += int(np.count_nonzero(values[0] != batched))
        if window.is_encoded:
            self._write(self._windows.popleft())
        return num_clips

    def finish(self) -> None:
        """Write what is left: windows of which no clip could be decoded."""
        while self._windows:
            self._write(self._windows.popleft())

    def _write(self, window: _Window) -> None:
        _add(window.decoded, window.values, self._writer, self._report)
        self.share = window.decoded[-1].share


def _add(
    decoded: Sequence[Wave | FaultyClip],
    values: dict[str, Int16 | Int32],
    writer: SidecarWriter,
    report: EncodeReport,
) -> None:
    for clip in decoded:
        if isinstance(clip, FaultyClip):
            reason, detail = clip.reason, clip.detail
        elif values[clip.clip_id].shape[-1]:
            writer.add(clip.clip_id, values[clip.clip_id])
            report.num_made += 1
            continue
        else:
            reason = Reason.EMPTY
            detail = f"{len(clip.samples)} samples are too short for a frame"
        writer.add(clip.clip_id, None, reason=f"{reason}: {detail}")
        report.faults[reason] += 1
        if len(report.examples) < _MAX_EXAMPLES:
            report.examples.append(f"{clip.clip_id}: {detail}")


def _show(bar: Any, report: EncodeReport, share: float | None, passed_s: float) -> None:
    """Show the speed and, where clips say their share, the time left."""
    words = {"speed": f"{report.audio_s / passed_s:.1f}x"}
    if share:
        words["left"] = tqdm.format_interval(int(passed_s * (1 - share) / share))
    bar.set_postfix(words)
