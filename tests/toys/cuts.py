"""Cuts, SHAR and manifests, written by lhotse itself."""

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import CutSet
from lhotse import Recording
from lhotse import RecordingSet
from lhotse import SupervisionSegment
from lhotse import SupervisionSet
from lhotse.cut import Cut
from lhotse.cut import MonoCut
from lhotse.cut import MultiCut

from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.folder import Corpus

RATE = 16_000
SEGMENTS = (  # start, seconds, speaker, text: the second begins before the first ends
    (0.25, 1.5003, "A", "How was the trip?"),
    (1.31, 1.2, "B", "Long, and cold."),
    (3.0, 0.70007, "A", "Tell me more."),
)


def noise(seed: int, seconds: float = 4.0, channels: int = 2) -> np.ndarray:
    """Samples [S, channels] that no other seed has."""
    values = np.random.default_rng(seed).integers(-9000, 9000, (round(seconds * RATE), channels))
    return values.astype(np.int16)


def recording(folder: Path, name: str, samples: np.ndarray, end: str = "wav") -> Recording:
    """A recording of a folder, whose path is relative to it."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.{end}", samples, RATE)
    made = Recording.from_file(folder / f"{name}.{end}", recording_id=name)
    made.sources[0].source = f"{name}.{end}"
    return made


def supervisions(name: str, channels: Sequence[int] = (0, 1), **fields: Any) -> list[SupervisionSegment]:
    """What is said in a recording; the second speaker is on the second channel."""
    return [
        SupervisionSegment(
            id=f"{name}-{i}",
            recording_id=name,
            start=start,
            duration=seconds,
            channel=channels[speaker == "B"],
            text=text,
            speaker=speaker,
            gender="F",
            custom={"emotion": "sad"},
            **fields,
        )
        for i, (start, seconds, speaker, text) in enumerate(SEGMENTS)
    ]


def conversation(folder: Path, name: str, seed: int) -> MultiCut:
    """A conversation that is all of a recording of two channels."""
    made = recording(folder, name, noise(seed))
    said = supervisions(name)
    return MultiCut(
        id=name, start=0, duration=made.duration, channel=[0, 1], recording=made, supervisions=said
    )


def utterance(folder: Path, name: str, seed: int, **changes: Any) -> MonoCut:
    """A cut of one supervision, which is all of it."""
    made = recording(folder, name, noise(seed, 0.5, 1))
    fields = {"text": f"Words {seed}.", "speaker": "reader", "start": 0, "duration": made.duration} | changes
    said = SupervisionSegment(id=name, recording_id=name, channel=0, **fields)
    return MonoCut(id=name, start=0, duration=made.duration, channel=0, recording=made, supervisions=[said])


def write_manifest(folder: Path, cuts: Sequence[Cut], name: str = "cuts.jsonl") -> Path:
    """Write cuts as a manifest; the folder."""
    CutSet.from_cuts(cuts).to_file(folder / name)
    return folder


def write_shar(folder: Path, cuts: Sequence[Cut], beside: Path, shard_size: int = 2, **fields: str) -> Path:
    """Write cuts, whose recordings lie in `beside`, as SHAR; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(beside), warnings.catch_warnings(action="ignore"):
        CutSet.from_cuts(cuts).to_shar(folder, fields=fields, shard_size=shard_size)
    return folder


def write_recordings(folder: Path, cuts: Sequence[Cut], said: Sequence[SupervisionSegment]) -> Path:
    """Write the recordings of cuts beside supervisions; the folder."""
    RecordingSet.from_recordings(cut.recording for cut in cuts).to_file(folder / "recordings.jsonl.gz")
    SupervisionSet.from_segments(said).to_file(folder / "supervisions.jsonl.gz")
    return folder


def samples_of(cut: Cut, folder: Path, channel: int = 0) -> np.ndarray:
    """A channel of a cut as lhotse reads it, as int16 [S]; its recording lies in `folder`."""
    with contextlib.chdir(folder):
        return np.rint(cut.load_audio()[channel] * (1 << 15)).astype(np.int16)


class Heard:
    """Loads clips of a folder."""

    def __init__(self, folder: Path) -> None:
        self._buffer = ClipBuffer(Corpus.open(str(folder)), 1 << 20)

    def bytes(self, audio: Any) -> bytes:
        """The bytes of a clip, as a row has them."""
        clip = self._buffer.load(audio)
        return self._buffer.array[clip.start : clip.stop].tobytes()
