"""Clips through an encoder into a store: batched by length, added in the order of the source."""

import math
import time
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import Protocol

import numpy as np
from tqdm import tqdm

from speechrows.errors import UsageError
from speechrows.generate.clip import SourceClip
from speechrows.generate.store import Store
from speechrows.generate.waves import Ahead
from speechrows.generate.waves import Float32
from speechrows.generate.waves import Unheard
from speechrows.generate.waves import Wave
from speechrows.generate.waves import batches
from speechrows.generate.waves import windows
from speechrows.types import Int16
from speechrows.types import Int32
from speechrows.types import Reason

_BATCHES_A_WINDOW = 8
_TOLD = 5  # faulty clips that are told one by one; all of them are in the store, with their reasons


class Encoder(Protocol):
    """What makes codes int16 [K, F], or units int32 [F], of a batch of clips.

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
class Report:
    """What a run did. Printed, it is what a person wants to know at the end."""

    folder: str
    there: int = 0  # clips that an earlier run had made
    made: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    told: list[str] = field(default_factory=list[str])  # of the faults, the first few
    audio_s: float = 0.0  # seconds of audio that were encoded
    wall_s: float = 0.0
    waited_s: float = 0.0  # of wall_s, for clips that were not yet decoded
    codes: int = 0  # that were made again from their clip alone
    differing: int = 0

    @property
    def loader_share(self) -> float:
        """The part of the time that the model waited for its clips."""
        return self.waited_s / self.wall_s if self.wall_s else 0.0

    def __str__(self) -> str:
        had = f" ({self.there} were there)" if self.there else ""
        lines = [f"{self.folder}: {self.made} clips made{had}, {self.faults.total()} without a value"]
        lines += [f"  {reason}: {number}" for reason, number in sorted(self.faults.items())]
        lines += [f"  {line}" for line in self.told]
        if self.audio_s:
            lines.append(
                f"{self.audio_s / 3600:.3f} hours of audio in {self.wall_s:.1f} s: "
                f"{self.audio_s / self.wall_s:.1f} s a second; {self.loader_share:.1%} of the time went "
                "into waiting for decoded clips"
            )
        if self.codes:
            lines.append(
                f"verified: {self.differing} of {self.codes} codes differ when their clip is encoded alone "
                f"({self.differing / self.codes * 10_000:.2f} in 10 000; float ties)"
            )
        return "\n".join(lines)


def run(
    clips: Iterable[SourceClip],
    store: Store,
    encoder: Encoder,
    *,
    batch_seconds: float,
    num_threads: int,
    verify: int = 0,
    window_seconds: float = 60.0,
) -> Report:
    """Encode every clip that the store lacks. The first `verify` are encoded once more, each alone.

    Clips are sorted by length within `window_seconds` of audio (or 8 batches): what a run that is
    killed loses, besides what the store says.
    """
    if not 0 < batch_seconds < math.inf:
        raise UsageError(f"--batch-seconds: found {batch_seconds}, expected a number above 0")
    report = Report(folder=str(store.folder), there=len(store))
    rate = encoder.sampling_rate
    budget = math.ceil(batch_seconds * rate)
    window = max(_BATCHES_A_WINDOW * budget, int(window_seconds * rate))
    missing = (clip for clip in clips if clip.clip_id not in store)
    ahead = Ahead(missing, rate, num_samples=window, num_threads=num_threads)
    started = time.monotonic()
    with tqdm(desc=store.recipe["kind"], unit="clip", disable=None) as bar:
        for heard in windows(ahead, window):
            waves = [clip for clip in heard if isinstance(clip, Wave)]
            values: dict[str, Int16 | Int32] = {}
            for places in batches([len(wave.samples) for wave in waves], budget):
                batch = [waves[place] for place in places]
                made = encoder.encode([wave.samples for wave in batch])
                values |= {wave.clip_id: value for wave, value in zip(batch, made, strict=True)}
                report.audio_s += sum(len(wave.samples) for wave in batch) / rate
                bar.update(len(batch))
            _add(heard, values, store, report)
            _verify(waves[: max(verify, 0)], values, encoder, report)
            verify -= len(waves)
            _tell(bar, report, heard[-1].share, time.monotonic() - started)
    report.wall_s, report.waited_s = time.monotonic() - started, ahead.waited_s
    return report


def _add(
    heard: Sequence[Wave | Unheard], values: dict[str, Int16 | Int32], store: Store, report: Report
) -> None:
    for clip in heard:
        if isinstance(clip, Unheard):
            reason, detail = clip.reason, clip.detail
        elif values[clip.clip_id].shape[-1]:
            store.add(clip.clip_id, values[clip.clip_id])
            report.made += 1
            continue
        else:
            reason = Reason.EMPTY
            detail = f"{len(clip.samples)} samples are too short for a frame"
        store.add(clip.clip_id, None, reason=f"{reason}: {detail}")
        report.faults[reason] += 1
        if len(report.told) < _TOLD:
            report.told.append(f"{clip.clip_id}: {detail}")


def _verify(
    waves: Sequence[Wave], values: dict[str, Int16 | Int32], encoder: Encoder, report: Report
) -> None:
    for wave in waves:
        alone, batched = encoder.encode([wave.samples])[0], values[wave.clip_id]
        report.codes += batched.size
        report.differing += int(np.count_nonzero(alone != batched))


def _tell(bar: Any, report: Report, share: float | None, passed_s: float) -> None:
    """Speed and, where the source knows how far it is, the time left."""
    words = {"speed": f"{report.audio_s / passed_s:.1f}x"}
    if share:
        words["left"] = tqdm.format_interval(int(passed_s * (1 - share) / share))
    bar.set_postfix(words)
