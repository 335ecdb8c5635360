"""Conversations in time, whose clips have samples that are known exactly, as a table and as built rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from toys.audio import wav
from toys.building import build_rows

RATE = 16_000
_rng = np.random.default_rng(0)


def pcm(bits: int, seconds: float, channels: int = 1) -> np.ndarray:
    """Samples whose every bit is used, as floats that hold them exactly."""
    size = (round(seconds * RATE), channels)
    return _rng.integers(-(1 << bits - 2), 1 << bits - 2, size) / (1 << bits - 1)


# A conversation: who speaks, from when on, and its samples, subtype and rate.
Said = tuple[str, float | None, np.ndarray, str, int]
EXACT: dict[str, list[Said]] = {
    "overlap": [
        ("user", 0.25, pcm(16, 1.5003), "PCM_16", RATE),
        ("assistant", 1.31, pcm(16, 1.2), "PCM_16", RATE),
        ("user", 3.0, pcm(16, 0.7), "PCM_16", RATE),
    ],
    "deep": [
        ("user", 0.0, pcm(24, 0.5), "PCM_24", RATE),
        ("user", 0.75, pcm(16, 0.5), "PCM_16", RATE),
        ("assistant", 2.0, pcm(8, 0.4), "PCM_U8", RATE),
    ],
    "answer only": [("assistant", 0.5, pcm(16, 0.3), "PCM_16", RATE)],
}
ODD: dict[str, list[Said]] = {
    "rates": [
        ("user", 0.0, pcm(16, 0.2), "PCM_16", RATE),
        ("assistant", 1.0, pcm(16, 0.2), "PCM_16", 8000),
    ],
    "collide": [
        ("user", 0.0, pcm(16, 1.0), "PCM_16", RATE),
        ("user", 0.5, pcm(16, 0.5), "PCM_16", RATE),
        ("assistant", 0.7, pcm(16, 0.5), "PCM_16", RATE),
    ],
    "stereo": [
        ("user", 0.0, pcm(16, 0.2, channels=2), "PCM_16", RATE),
        ("assistant", 1.0, pcm(16, 0.2), "FLOAT", RATE),
    ],
    "five hours": [
        ("user", 0.0, pcm(16, 0.2), "PCM_16", RATE),
        ("assistant", 18_000.0, pcm(16, 0.2), "PCM_16", RATE),
    ],
}


def build_timed(folder: Path, talks: dict[str, list[Said]], config: str = "ttt", **options: Any) -> str:
    """Build the rows of conversations; the built folder."""
    rows = list[dict[str, Any]]()
    (folder / "talks").mkdir(parents=True)
    for name, turns in talks.items():
        for turn, (role, start, samples, subtype, rate) in enumerate(turns):
            clip = f"{name}-{turn}.wav"
            (folder / "talks" / clip).write_bytes(wav(samples, rate, subtype))
            who = {"user": "Ann", "assistant": "Bob"}[role]
            facts = {
                "conversation": name,
                "turn": turn,
                "role": role,
                "speaker": who,
                "emotion": "sad",
                "gender": "F",
            }
            rows.append({"audio": clip, "text": f"{name} {turn}.", "start": start, **facts})
    (folder / "talks/talks.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    build_rows(folder / "talks", folder / "rows", config, builder="audio_table", **options)
    return str(folder / "rows")


def channels_of(turns: list[Said], times: list[float]) -> list[np.ndarray]:
    """The two channels that turns make, the user's and the assistant's."""
    firsts = [round(time * RATE) for time in times]
    stop = max(first + len(turn[2]) for first, turn in zip(firsts, turns, strict=True))
    channels = {"user": np.zeros(stop), "assistant": np.zeros(stop)}
    for first, (role, _, samples, *_) in zip(firsts, turns, strict=True):
        channels[role][first : first + len(samples)] = samples[:, 0]
    return [*channels.values()]
