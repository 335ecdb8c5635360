"""`speechrows generate traits`: speaking rate, pitch, and loudness of clips, measured without a model.

`speaking_rate` is letters of the transcript a second of speech (text/letters.py, audio/levels.py),
`pitch_mean` and `pitch_std` are Hz (audio/pitch.py), `rms` is a share of full scale, `relative_db` the level
of the speech in dB of full scale. Each is null where a clip tells none: no text, no voice, silence.
"""

import argparse
import os
import time
from collections import Counter
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from speechrows.audio.levels import FLOOR_DB
from speechrows.audio.levels import levels_of
from speechrows.audio.pitch import RATE_HZ
from speechrows.audio.pitch import pitch_of
from speechrows.errors import BadClipError
from speechrows.generate.clip import InputClip
from speechrows.generate.clip import LazyAudio
from speechrows.generate.selection import ClipSelection
from speechrows.generate.waves import RESAMPLER
from speechrows.generate.waves import FaultyClip
from speechrows.generate.waves import Float32
from speechrows.generate.waves import load
from speechrows.generate.writer import SidecarWriter
from speechrows.sidecar.heard_traits import TraitLimits
from speechrows.text.letters import num_letters
from speechrows.types import AudioRef
from speechrows.workers.local import HERE
from speechrows.workers.work import Engine
from speechrows.workers.work import Progress
from speechrows.workers.work import Work

_VERSION = 1  # of how clips are measured
_CHUNK = 32  # clips that go to another process together
_AHEAD = 4  # clips a thread, measured or waiting
_LEAST_S = 0.1  # of speech: of less, no rate is told
_MAX_EXAMPLES = 5

Numbers = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """A clip's numbers, in the order of the columns; None, with a reason, of one that can not be heard."""

    clip_id: str
    numbers: Numbers | None
    seconds: float
    reason: str | None = None
    detail: str = ""


_Chunk = Sequence[InputClip | _Measured]


@dataclass(kw_only=True)
class TraitsReport:
    """Counts and times of a run of `generate traits`; as a string, lines for a person."""

    folder: str
    num_earlier: int = 0  # clips that an earlier run had measured
    num_made: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])  # clips that can not be heard, by reason
    examples: list[str] = field(default_factory=list[str])  # of the faults, the first few
    audio_s: float = 0.0  # seconds of audio that were measured
    wall_s: float = 0.0
    limits: TraitLimits | None = None  # of all clips of the folder

    def __str__(self) -> str:
        earlier = f" ({self.num_earlier} were there)" if self.num_earlier else ""
        lines = [f"{self.folder}: {self.num_made} clips measured{earlier}, {self.faults.total()} faulty"]
        lines += [f"  {reason}: {number}" for reason, number in sorted(self.faults.items())]
        lines += [f"  {line}" for line in self.examples]
        if self.audio_s:
            speed = self.audio_s / self.wall_s
            lines.append(
                f"{self.audio_s / 3600:.3f} hours of audio in {self.wall_s:.1f} s: {speed:.0f} s a second"
            )
        if self.limits is not None:
            lines.append(f"joined by --with: {self.limits}")
        return "\n".join(lines)


def run_traits(options: argparse.Namespace, engine: Engine = HERE) -> TraitsReport:
    """Run `speechrows generate traits`: the traits of every clip that --source names."""
    clips = ClipSelection.of(options).clips(audio=True)
    recipe = {"kind": "traits", "version": _VERSION, "resampled": RESAMPLER}
    with SidecarWriter.open(options.out, recipe, overwrite=options.overwrite) as writer:
        here = engine.cluster_gpus is None
        report = make(
            clips, writer, num_threads=min(16, os.cpu_count() or 1), engine=None if here else engine
        )
    paths = sorted(options.out.glob("part-*.parquet"))
    columns = [pq.read_table(path, columns=["speaking_rate", "relative_db"]) for path in paths]
    report.limits = TraitLimits.of(
        *(np.concatenate([table[name].to_numpy() for table in columns]) for name in columns[0].column_names)
    )
    return report


def make(
    clips: Iterable[InputClip], writer: SidecarWriter, *, num_threads: int, engine: Engine | None = None
) -> TraitsReport:
    """Measure every clip that the sidecar lacks; they are written in the order of the clips.

    They are measured in threads of this process, or where an `engine` has it done.
    """
    report = TraitsReport(folder=str(writer.folder), num_earlier=len(writer))
    started = time.monotonic()
    missing = (clip for clip in clips if clip.clip_id not in writer)
    with tqdm(desc="traits", unit="clip", disable=None) as bar:
        measured = _by_workers(missing, engine) if engine else _in_threads(missing, num_threads)
        for clip in measured:
            reason = None if clip.reason is None else f"{clip.reason}: {clip.detail}"
            writer.add(clip.clip_id, clip.numbers, reason=reason)
            report.audio_s += clip.seconds
            report.num_made += clip.reason is None
            if clip.reason is not None:
                report.faults[clip.reason] += 1
                if len(report.examples) < _MAX_EXAMPLES:
                    report.examples.append(f"{clip.clip_id}: {clip.detail}")
            bar.update()
    report.wall_s = time.monotonic() - started
    return report


def _in_threads(clips: Iterable[InputClip], num_threads: int) -> Iterator[_Measured]:
    """Measure clips; at most _AHEAD a thread are in memory."""
    waiting: deque[Future[_Measured]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for clip in clips:
                waiting.append(pool.submit(_measure, clip))
                if len(waiting) >= _AHEAD * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _by_workers(clips: Iterable[InputClip], engine: Engine) -> Iterator[_Measured]:
    """Measure clips elsewhere, a chunk at a time; this process reads them."""
    work = Work[_Chunk, list[_Measured]](
        open=_open_measuring,
        died="a process that measured clips died, killed or out of memory",
        name=lambda chunk: f"{chunk[0].clip_id} and the clips behind it",
    )
    remaining = iter(clips)
    chunks = iter(lambda: [_with_bytes(clip) for clip in islice(remaining, _CHUNK)], [])
    for measured in engine.run(work, chunks):
        yield from measured


def _with_bytes(clip: InputClip) -> InputClip | _Measured:
    """A clip with its bytes in hand: its corpus, which stays here, is asked for them once."""
    if clip.audio is None:
        return clip
    try:
        data = bytes(clip.audio.load())
    except BadClipError as error:
        return _faulty(clip.clip_id, error.reason, error.detail)
    return replace(clip, audio=LazyAudio(ref=AudioRef(path=clip.audio.ref.path, data=data)))


def _open_measuring(_: Progress) -> Callable[[_Chunk], list[_Measured]]:
    return lambda chunk: [clip if isinstance(clip, _Measured) else _measure(clip) for clip in chunk]


def _measure(clip: InputClip) -> _Measured:
    wave = load(clip, RATE_HZ)
    if isinstance(wave, FaultyClip):
        return _faulty(clip.clip_id, wave.reason, wave.detail)
    return _Measured(
        clip_id=clip.clip_id, numbers=measure(wave.samples, clip.text), seconds=len(wave.samples) / RATE_HZ
    )


def _faulty(clip_id: str, reason: str, detail: str) -> _Measured:
    return _Measured(clip_id=clip_id, numbers=None, seconds=0.0, reason=reason, detail=detail)


def measure(samples: Float32, text: str) -> Numbers:
    """The numbers of a clip float32 [S] at RATE_HZ that says `text`, in the order of the columns."""
    levels = levels_of(samples, RATE_HZ)
    pitch = pitch_of(samples, levels.is_speech)
    letters, speech_s = num_letters(text), levels.speech_s
    return (
        letters / speech_s if letters and speech_s >= _LEAST_S else None,
        pitch.mean_hz or None,
        pitch.std_hz if pitch.mean_hz else None,
        levels.rms,
        levels.speech_db if levels.speech_db > FLOOR_DB else None,
    )
