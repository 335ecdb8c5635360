"""When words are said, heard by faster-whisper: an extra, and imported where it is asked for alone."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from speechrows.audio.samples import decode
from speechrows.conversations.heard_words import timed
from speechrows.conversations.records import Sound
from speechrows.conversations.turns import SpokenTurn
from speechrows.conversations.words import Word
from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.storage.models import is_from_cache

try:
    import faster_whisper  # pyright: ignore[reportMissingImports]
    import soxr
except ImportError as error:
    raise UsageError(f"found {error}; --aligner whisper needs: pip install 'speechrows[asr]'") from error

_RATE_HZ = 16_000  # of every Whisper
# What is heard begins and ends with speech: over a pause, Whisper draws out the word behind it.
_SPEECH = {"speech_pad_ms": 50, "min_silence_duration_ms": 300}


@dataclass(frozen=True, slots=True)
class Whisper:
    """Hears when each word is said; where none is heard, the words of a turn fill it by their letters.

    `folder` has the files of a model. It is loaded once a process, on the device that CTranslate2 finds.
    """

    folder: str

    @staticmethod
    def of(model: str) -> "Whisper":
        """The aligner of a model: a folder with CTranslate2's files, or a repository of the Hub with them.

        Raises:
            UsageError: there is no such model.
            StoreError: it is on the Hub, which can not be reached.
        """
        is_kept = is_from_cache(model, "--asr-model")
        try:
            aligner = Whisper(_folder_of(model, is_kept=is_kept))
            _loaded(aligner.folder)
        except (OSError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"--asr-model {model}: faster-whisper does not load it ({first_line(error):.200}); expected "
                "a folder with CTranslate2's model.bin and tokenizer.json, or a repository with them, "
                "such as Systran/faster-whisper-base"
            ) from error
        return aligner

    def words(self, turn: SpokenTurn, start_s: float, stop_s: float) -> Sequence[Word]:
        """The words of a turn's text, at the times at which they are heard in its clip.

        Raises:
            BadClipError: the clip does not decode.
        """
        heard = [] if turn.clip is None else _heard(self.folder, turn.clip, start_s)
        return timed(turn.text.split(), heard, start_s, stop_s)


def _folder_of(model: str, *, is_kept: bool) -> str:
    """Where a model's files are: downloaded, where they are on the Hub."""
    return model if os.path.isdir(model) else faster_whisper.download_model(model, local_files_only=is_kept)


@cache
def _loaded(folder: str) -> Any:
    """The model, on one thread: what uses more cores is more processes."""
    return faster_whisper.WhisperModel(folder, compute_type="auto", cpu_threads=1)


def _heard(folder: str, clip: Sound, start_s: float) -> list[Word]:
    """The words that are heard in a clip which begins at `start_s`; the same each time: nothing is drawn."""
    samples, rate = decode(clip.data)
    sound = soxr.resample(samples.mean(axis=1), rate, _RATE_HZ)
    segments, _ = _loaded(folder).transcribe(
        sound,
        word_timestamps=True,
        vad_filter=True,
        vad_parameters=_SPEECH,
        temperature=0.0,
        condition_on_previous_text=False,
    )
    return [
        Word(text=word.word, start_s=start_s + float(word.start), stop_s=start_s + float(word.end))
        for segment in segments
        for word in segment.words
    ]
