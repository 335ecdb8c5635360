"""When words are said, heard by faster-whisper: an extra, and imported where it is asked for alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from speechrows.conversations import hearing
from speechrows.conversations.heard_words import timed
from speechrows.conversations.records import Sound
from speechrows.conversations.turns import SpokenTurn
from speechrows.conversations.words import Word

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
        return Whisper(hearing.model_folder(model, "--asr-model"))

    def words(self, turn: SpokenTurn, start_s: float, stop_s: float) -> Sequence[Word]:
        """The words of a turn's text, at the times at which they are heard in its clip.

        Raises:
            BadClipError: the clip does not decode.
        """
        heard = [] if turn.clip is None else _heard(self.folder, turn.clip, start_s)
        return timed(turn.text.split(), heard, start_s, stop_s)


def _heard(folder: str, clip: Sound, start_s: float) -> list[Word]:
    """The words that are heard in a clip which begins at `start_s`; the same each time: nothing is drawn."""
    segments, _ = hearing.loaded(folder).transcribe(
        hearing.samples_of(clip.data),
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
