"""Dialogues made by hand, and their clips in memory."""

import numpy as np

from speechrows.errors import BadClipError
from speechrows.types import AudioRef
from speechrows.types import Clip
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Reason
from speechrows.types import Turn


class ToyClips:
    """A clip buffer in memory. The path of a clip is its recipe: `<samples>@<rate>` or a Reason's name."""

    def __init__(self) -> None:
        self.array = np.zeros(0, np.uint8)
        self.used = 0

    def load(self, ref: AudioRef) -> Clip:
        samples, at, rate = ref.path.partition("@")
        if not at:
            raise BadClipError(Reason(ref.path), "as its name says")
        data = clip_bytes(ref.path)
        self.array = np.concatenate([self.array[: self.used], np.frombuffer(data, np.uint8)])
        start, self.used = self.used, self.used + len(data)
        return Clip(
            name=f"{samples}.wav",
            start=start,
            stop=self.used,
            sampling_rate=int(rate),
            num_samples=int(samples),
        )

    def rewind(self, used: int) -> None:
        self.used = used


def clip_bytes(path: str) -> bytes:
    """What stands in the buffer for a clip: its path, so that a misplaced byte is seen."""
    return f"RIFF {path} ".encode()


def toy_turn(
    number: int,
    text: str = "hello",
    *,
    role: str | None = None,
    audio: str | None = "16000@16000",
    needs: str | None = None,
    **more,
) -> Turn:
    """A turn; user and assistant alternate from 0 unless `role` says otherwise.

    It has what a task `needs`: an answer that repeats the text, or codes.
    """
    role = role or ("user", "assistant")[number % 2]
    ref = None if audio is None else AudioRef(path=audio)
    if needs == "answer":
        more.setdefault("answer", text)
    elif needs is not None:
        more.setdefault("codes", toy_codes(needs, number))
    more.setdefault("speaker", f"the {role}")
    return Turn(number=number, role=role, text=text, audio=ref, **more)


def toy_codes(kind: str, seed: int = 0, frames: int = 3) -> Codes:
    """Codes of `kind` "codes" (Mimi's) or "units", that differ with the seed."""
    codebooks = 8 if kind == "codes" else 1
    values = np.arange(codebooks * frames, dtype=np.int16).reshape(codebooks, frames) + 100 * seed
    return Codes(codec="mimi" if kind == "codes" else "xlsr2_1b_v2_10k", values=values)


def toy_dialogue(*turns: Turn, name: str = "corpus/one", split: str = "train", twin: str = "one") -> Dialogue:
    """A dialogue of these turns."""
    return Dialogue(
        conversation_id=name, split=split, domain="toys", turns=turns, twin_key=twin, source=f"{name}.json"
    )
