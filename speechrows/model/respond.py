"""`speechrows respond`: a trained model hears clips, one turn after another, and answers each."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from speechrows import audio
from speechrows.codec import CODECS
from speechrows.errors import SpeechRowsError
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.model.clip import heard
from speechrows.model.command import CODEC
from speechrows.model.omni import Omni
from speechrows.model.session import Session
from speechrows.types import Int16

Voice = Callable[[Tensor], Int16]  # samples [S] of codes [K, F]


def run(options: argparse.Namespace, open_voice: Callable[[str], Voice]) -> int:
    """Answer the clips of a command line; `open_voice` opens the decoder of Mimi's codes by name.

    Raises:
        UsageError: no such model or clip, or with --out nothing to speak with.
    """
    out: Path | None = options.out
    if out is not None and not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: can not be written (no such folder); give another")
    for clip in options.clips:  # what is wrong with them is said before models load
        heard(clip)
    model = Omni.load(options.model, options.device)
    voice = None if out is None else _voice(model, options.codec, open_voice)
    session = Session(
        model,
        task=options.task,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        speaks=voice is not None,
    )
    waves: list[Int16] = []
    for clip in options.clips:
        say(f"{clip}: ")
        answer = session.respond(clip, say)
        say(f" … (cut after {len(answer.token_ids)} tokens)\n" if answer.is_cut else "\n")
        if voice is not None and answer.codes is not None:
            waves.append(voice(answer.codes))
    if out is not None and waves:
        _write(out, np.concatenate(waves), model)
    return 0


@dataclass(frozen=True, slots=True)
class Talking:
    """A model that visitors of the preview talk with; it speaks where it learnt to, and Mimi is at hand."""

    model: Omni
    voice: Voice | None

    @staticmethod
    def open(folder: Path, open_voice: Callable[[str], Voice]) -> "Talking":
        """Open a model by its folder.

        Raises:
            UsageError: there is none, or it can not answer.
        """
        model, voice = Omni.load(folder), None
        if model.config.codec is not None:
            try:
                voice = _voice(model, CODEC, open_voice)
            except SpeechRowsError as error:
                say(f"answers are written, and not spoken: {error}\n")
        Session(model)
        return Talking(model, voice)

    def begin(self) -> "Conversation":
        """Begin a conversation."""
        return Conversation(Session(self.model, speaks=self.voice is not None), self.voice)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A visitor's conversation."""

    session: Session
    voice: Voice | None

    def hear(self, clip: bytes) -> tuple[str, bytes | None]:
        """Hear the next turn; its answer, and a WAV of that where the model speaks."""
        answer = self.session.respond(clip)
        if self.voice is None or answer.codes is None:
            return answer.text, None
        rate = CODECS[str(self.session.model.config.codec)].sampling_rate
        return answer.text, audio.array_wav(self.voice(answer.codes), rate)


def _voice(model: Omni, name: str, open_voice: Callable[[str], Voice]) -> Voice:
    if model.config.codec is None:
        raise UsageError(
            "--out: the model has no audio head to speak with; leave --out out, or train on rows with codes: "
            "s2s_mimi, or response with Mimi codes of the answers"
        )
    if model.config.codec != "mimi":
        raise UsageError(f"--out: found codes of {model.config.codec}, expected mimi's; leave --out out")
    return open_voice(name)


def _write(path: Path, samples: Int16, model: Omni) -> None:
    rate = CODECS[str(model.config.codec)].sampling_rate
    try:
        path.write_bytes(audio.array_wav(samples, rate))
    except OSError as error:
        raise UsageError(f"--out {path}: can not be written ({error.strerror}); give another") from error
    say(f"{path}: {len(samples) / rate:.2f} s of speech\n")


def say(text: str) -> None:
    """Write a text that goes on, at once."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()
